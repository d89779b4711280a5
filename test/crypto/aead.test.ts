import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AeadFactory, type AeadName, aead, evpAead, nodeAead, TAG_LENGTH } from '#src/crypto/index.js';
import { AEADS } from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { concat, toHex } from '../support/vectors.js';

const ROWS = Object.values(AEADS);
const NONCE = new Uint8Array(12).fill(7);
const HEADER = Uint8Array.of(0, 1, 2);
const fresh = (factory: AeadFactory, name: AeadName, keyLength: number) =>
  factory(name, new Uint8Array(keyLength).fill(9));

/** All implementations; the fast one is there wherever the tests run. */
const implementations = (name: AeadName): readonly (readonly [string, AeadFactory])[] => {
  const fast = evpAead(name);
  assert.ok(fast);
  return [
    ['node:crypto', nodeAead],
    ['EVP', fast],
  ];
};

function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  pieces.push(bytes.subarray(at));
  return pieces;
}

const CASES = ROWS.flatMap((row) =>
  implementations(row.name).map(([by, factory]) => ({ ...row, factory, title: `${row.name} by ${by}` })),
);

for (const { name, keyLength, tagLength, factory, title } of CASES) {
  test(`${title}: header, ciphertext and tag come in order, in one piece when small`, () => {
    assert.equal(tagLength, TAG_LENGTH);
    const key = fresh(factory, name, keyLength);
    const small = key.seal(NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(64)]);
    assert.equal(small.length, 1);
    assert.equal(concat(small).length, 3 + 65 + TAG_LENGTH);
    assert.equal(toHex(concat(small).subarray(0, 3)), toHex(HEADER));
    const large = key.seal(NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(10_000)]);
    assert.equal(concat(large).length, 3 + 10_001 + TAG_LENGTH);
    // The same key stream, whatever the number of pieces.
    assert.equal(toHex(concat(large).subarray(3, 68)), toHex(concat(small).subarray(3, 68)));
  });

  test(`${title}: property: what was sealed is opened, however both are cut, and one changed bit is noticed`, () => {
    const sizes = fc.array(fc.nat({ max: 3000 }), { maxLength: 4 });
    const plaintext = fc
      .integer({ min: 1, max: 5000 })
      .map((length) => new Uint8Array(length).map((_, i) => i * 7));
    fc.assert(
      fc.property(plaintext, sizes, sizes, fc.nat(), (plaintext, sealCuts, openCuts, flip) => {
        const key = fresh(factory, name, keyLength);
        const frame = concat(key.seal(NONCE, HEADER, cut(plaintext, sealCuts)));
        const ciphertext = frame.slice(3);
        const opened = key.open(NONCE, HEADER, cut(ciphertext.slice(), openCuts));
        assert.ok(opened);
        assert.equal(toHex(concat(opened)), toHex(plaintext));

        const at = flip % ciphertext.length;
        ciphertext[at] = (ciphertext[at] ?? 0) ^ (1 << (flip % 8));
        assert.equal(key.open(NONCE, HEADER, cut(ciphertext, openCuts)), undefined);
      }),
    );
  });

  test(`${title}: another header, nonce or a ciphertext shorter than a tag does not open`, () => {
    const key = fresh(factory, name, keyLength);
    const ciphertext = concat(key.seal(NONCE, HEADER, [Uint8Array.of(1)])).subarray(3);
    assert.ok(key.open(NONCE, HEADER, [ciphertext.slice()]));
    assert.equal(key.open(NONCE, Uint8Array.of(1, 1, 2), [ciphertext.slice()]), undefined);
    assert.equal(key.open(new Uint8Array(12), HEADER, [ciphertext.slice()]), undefined);
    assert.equal(key.open(NONCE, HEADER, [ciphertext.slice(0, 15)]), undefined);
    assert.equal(key.open(NONCE, HEADER, []), undefined);
  });
}

for (const { name, keyLength } of ROWS) {
  test(`${name}: property: EVP makes the same frames as its twin, and opens them, with one key for all`, () => {
    const [slow, fast] = implementations(name).map(([, factory]) => fresh(factory, name, keyLength));
    assert.ok(slow && fast);
    // Around the sizes where the frame is copied, and shares its memory, and where it is not.
    const size = fc.oneof(
      fc.nat({ max: 200 }),
      fc.integer({ min: 4000, max: 4400 }),
      fc.integer({ min: 60_000, max: 65_519 }),
    );
    const cuts = fc.array(fc.nat({ max: 5000 }), { maxLength: 4 });
    const nonce = fc.uint8Array({ minLength: 12, maxLength: 12 });
    const header = fc.uint8Array({ minLength: 3, maxLength: 3 });
    fc.assert(
      fc.property(size, nonce, header, cuts, cuts, (size, nonce, header, sealCuts, openCuts) => {
        const plaintext = new Uint8Array(size).map((_, i) => (i * 31) ^ (i >>> 8));
        const before = toHex(plaintext);
        const frame = concat(fast.seal(nonce, header, cut(plaintext, sealCuts)));
        assert.equal(toHex(plaintext), before, 'the plaintext is not changed');
        assert.equal(toHex(frame), toHex(concat(slow.seal(nonce, header, cut(plaintext, sealCuts)))));
        const opened = fast.open(nonce, header, cut(frame.slice(3), openCuts));
        assert.ok(opened);
        assert.equal(toHex(concat(opened)), before);
      }),
    );
  });
}

test('EVP: frames do not share bytes', () => {
  const key = fresh(implementations('AES-128-GCM')[1]?.[1] ?? nodeAead, 'AES-128-GCM', 16);
  const frames = Array.from({ length: 1000 }, (_, i) => {
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setUint32(0, i);
    return { nonce, frame: concat(key.seal(nonce, HEADER, [new Uint8Array((i * 7) % 5000).fill(i)])), i };
  });
  for (const { nonce, frame, i } of frames) {
    const opened = key.open(nonce, HEADER, [frame.subarray(3)]);
    assert.ok(opened);
    assert.ok(concat(opened).every((byte) => byte === (i & 0xff)));
  }
});

test('EVP: gives no plaintext away with a wrong tag', () => {
  const key = fresh(aead, 'AES-128-GCM', 16);
  const ciphertext = concat(key.seal(NONCE, HEADER, [new Uint8Array(100).fill(1)])).slice(3);
  ciphertext[115] = (ciphertext[115] ?? 0) ^ 1;
  assert.equal(key.open(NONCE, HEADER, [ciphertext]), undefined);
  assert.ok(ciphertext.subarray(0, 100).every((byte) => byte === 0));
});

for (const [by, factory] of implementations('AES-128-GCM')) {
  test(`TC-43: erase() overwrites the key, which cannot be used afterwards: ${by}`, () => {
    const bytes = new Uint8Array(16).fill(9);
    const key = factory('AES-128-GCM', bytes);
    key.seal(NONCE, HEADER, [Uint8Array.of(1)]);
    key.erase();
    key.erase();
    assert.ok(bytes.every((byte) => byte === 0));
    assert.throws(() => key.seal(NONCE, HEADER, [Uint8Array.of(1)]), withCode('ERR_TCPCRYPT_CLOSED'));
    assert.throws(() => key.open(NONCE, HEADER, [new Uint8Array(20)]), withCode('ERR_TCPCRYPT_CLOSED'));
  });
}
