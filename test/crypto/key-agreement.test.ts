import assert from 'node:assert/strict';
import { createECDH, ECDH, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { type Curve, evpKeyPairs, generateKeyPair, importKeyPair, type KeyPair } from '#src/crypto/index.js';
import { withCode } from '../support/code.js';
import { toHex } from '../support/vectors.js';

const CURVES: readonly (readonly [Curve, publicKey: number, es: number])[] = [
  ['P-256', 33, 32],
  ['P-521', 67, 66],
  ['X25519', 32, 32],
  ['X448', 56, 56],
];

for (const [curve, publicKeyLength, esLength] of CURVES) {
  test(`${curve}: both ends agree, and lengths are those of RFC 8548 §5`, () => {
    const a = generateKeyPair(curve);
    const b = generateKeyPair(curve);
    assert.equal(a.publicKey.length, publicKeyLength);
    const es = a.agree(b.publicKey);
    assert.equal(es.length, esLength);
    assert.deepEqual(es, b.agree(a.publicKey));
    assert.notDeepEqual(es, a.agree(generateKeyPair(curve).publicKey));
  });

  test(`TC-9: ${curve}: a public key of the wrong length is refused`, () => {
    const pair = generateKeyPair(curve);
    for (const length of [0, publicKeyLength - 1, publicKeyLength + 1]) {
      const key = new Uint8Array(length);
      key.set(pair.publicKey.subarray(0, length));
      assert.throws(() => pair.agree(key), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'));
    }
  });
}

test('TC-11: an uncompressed, hybrid or infinite NIST point is refused, a compressed one is not', () => {
  for (const [curve, name] of [
    ['P-256', 'prime256v1'],
    ['P-521', 'secp521r1'],
  ] as const) {
    const pair = generateKeyPair(curve);
    const peer = createECDH(name);
    peer.generateKeys();
    assert.ok(pair.agree(peer.getPublicKey(null, 'compressed')));
    const x = peer.getPublicKey(null, 'compressed').subarray(1);
    const refused = [
      peer.getPublicKey(null, 'uncompressed'),
      peer.getPublicKey(null, 'hybrid'),
      new Uint8Array([0]),
      ...[0, 1, 4, 5, 6, 7].map((form) => new Uint8Array([form, ...x])),
    ];
    for (const point of refused)
      assert.throws(() => pair.agree(point), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'), toHex(point));
  }
});

test('TC-12: keys of small order, which force an all-zero secret, are refused', () => {
  const zeroAndOne = (length: number) => [
    new Uint8Array(length),
    Uint8Array.of(1, ...new Uint8Array(length - 1)),
  ];
  for (const [curve, length] of [
    ['X25519', 32],
    ['X448', 56],
  ] as const)
    for (const point of zeroAndOne(length))
      assert.throws(() => generateKeyPair(curve).agree(point), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'));
});

/** Of the right length and form, but no public key: x of no point (y² would be no square), or of small order. */
function invalidKeys(curve: Curve, length: number): Uint8Array[] {
  if (curve === 'X25519' || curve === 'X448')
    return [new Uint8Array(length), Uint8Array.of(1, ...new Uint8Array(length - 1))];
  const name = curve === 'P-256' ? 'prime256v1' : 'secp521r1';
  const isPoint = (key: Uint8Array): boolean => {
    try {
      return ECDH.convertKey(key, name).length > 0;
    } catch {
      return false;
    }
  };
  const found: Uint8Array[] = [Uint8Array.of(2, ...new Uint8Array(length - 1).fill(0xff))]; // beyond the field
  for (let x = 1; found.length < 4; x++) {
    const key = new Uint8Array(length).fill(0);
    key[0] = 2 + (x & 1);
    key[length - 1] = x;
    if (!isPoint(key)) found.push(key);
  }
  return found;
}

for (const [curve, publicKeyLength] of CURVES) {
  test(`TC-9, TC-12: ${curve}: a pair that is used often refuses invalid keys among valid ones, and stays as it was`, () => {
    const pair = generateKeyPair(curve);
    for (let i = 0; i < 3; i++) {
      for (const key of invalidKeys(curve, publicKeyLength))
        assert.throws(() => pair.agree(key), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'), toHex(key));
      const peer = generateKeyPair(curve);
      assert.deepEqual(pair.agree(peer.publicKey), peer.agree(pair.publicKey));
      assert.deepEqual(pair.agree(peer.publicKey), peer.agree(pair.publicKey));
    }
  });
}

test('a thousand key pairs: making one does not wait for the garbage collection of another, or of itself', () => {
  const keys = new Set(Array.from({ length: 1000 }, () => toHex(generateKeyPair('X25519').publicKey)));
  assert.equal(keys.size, 1000);
});

for (const curve of ['X25519', 'X448'] as const) {
  test(`${curve}: EVP agrees with node:crypto, its twin`, () => {
    const fast = evpKeyPairs(curve);
    assert.ok(fast);
    for (let i = 0; i < 20; i++) {
      const bytes = randomBytes(curve === 'X25519' ? 32 : 56);
      const ours: KeyPair = fast.import(bytes);
      const twin = importKeyPair(curve, bytes);
      const peer: KeyPair = fast.generate();
      assert.equal(toHex(ours.publicKey), toHex(twin.publicKey));
      assert.equal(toHex(ours.agree(peer.publicKey)), toHex(twin.agree(peer.publicKey)));
      assert.equal(toHex(peer.agree(twin.publicKey)), toHex(twin.agree(peer.publicKey)));
    }
  });
}

test('TC-8: of an erased NIST key pair node:crypto has the private key no longer', ({ mock }) => {
  const made: ECDH[] = [];
  const generateKeys = ECDH.prototype.generateKeys as () => Buffer;
  mock.method(ECDH.prototype, 'generateKeys', function (this: ECDH) {
    made.push(this);
    return generateKeys.call(this);
  });
  for (const curve of ['P-256', 'P-521'] as const) {
    const pair = generateKeyPair(curve);
    const ecdh = made.pop();
    assert.ok(ecdh);
    assert.notEqual(BigInt(`0x${ecdh.getPrivateKey('hex')}`), 1n);
    pair.erase();
    assert.equal(BigInt(`0x${ecdh.getPrivateKey('hex')}`), 1n);
  }
});

test('TC-8: an erased key pair agrees on nothing', () => {
  const pairs = CURVES.map(([curve]) => generateKeyPair(curve));
  for (const pair of [...pairs, importKeyPair('X25519', randomBytes(32))]) {
    const peer = generateKeyPair(pair.curve);
    assert.ok(pair.agree(peer.publicKey));
    pair.erase();
    pair.erase();
    assert.throws(() => pair.agree(peer.publicKey), withCode('ERR_TCPCRYPT_CLOSED'));
  }
});
