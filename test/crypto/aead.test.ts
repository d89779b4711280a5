import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type AeadFactory,
  type AeadName,
  evpAead,
  memoryOf,
  nodeAead,
  TAG_LENGTH,
} from '#src/crypto/index.js';
import { AEADS } from '#src/wire/index.js';
import { open, seal } from '../support/aead.js';
import { withCode } from '../support/code.js';
import { toHex } from '../support/vectors.js';

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
  test(`${title}: header, ciphertext and tag come in order`, () => {
    assert.equal(tagLength, TAG_LENGTH);
    const key = fresh(factory, name, keyLength);
    const small = seal(key, NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(64)]);
    assert.equal(small.length, 3 + 65 + TAG_LENGTH);
    assert.equal(toHex(small.subarray(0, 3)), toHex(HEADER));
    const large = seal(key, NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(10_000)]);
    assert.equal(large.length, 3 + 10_001 + TAG_LENGTH);
    // The same key stream, whatever the number of pieces.
    assert.equal(toHex(large.subarray(3, 68)), toHex(small.subarray(3, 68)));
  });

  test(`${title}: property: what was sealed is opened, however both are cut, and one changed bit is noticed`, () => {
    const sizes = fc.array(fc.nat({ max: 3000 }), { maxLength: 4 });
    const plaintext = fc
      .integer({ min: 1, max: 5000 })
      .map((length) => new Uint8Array(length).map((_, i) => i * 7));
    fc.assert(
      fc.property(plaintext, sizes, sizes, fc.nat(), (plaintext, sealCuts, openCuts, flip) => {
        const key = fresh(factory, name, keyLength);
        const frame = seal(key, NONCE, HEADER, cut(plaintext, sealCuts));
        const ciphertext = frame.slice(3);
        const opened = open(key, NONCE, HEADER, cut(ciphertext.slice(), openCuts));
        assert.ok(opened);
        assert.equal(toHex(opened), toHex(plaintext));

        const at = flip % ciphertext.length;
        ciphertext[at] = (ciphertext[at] ?? 0) ^ (1 << (flip % 8));
        assert.equal(open(key, NONCE, HEADER, cut(ciphertext, openCuts)), undefined);
      }),
    );
  });

  test(`${title}: another header, nonce or a ciphertext shorter than a tag does not open`, () => {
    const key = fresh(factory, name, keyLength);
    const ciphertext = seal(key, NONCE, HEADER, [Uint8Array.of(1)]).subarray(3);
    assert.ok(open(key, NONCE, HEADER, [ciphertext.slice()]));
    assert.equal(open(key, NONCE, Uint8Array.of(1, 1, 2), [ciphertext.slice()]), undefined);
    assert.equal(open(key, new Uint8Array(12), HEADER, [ciphertext.slice()]), undefined);
    assert.equal(open(key, NONCE, HEADER, [ciphertext.slice(0, 15)]), undefined);
    assert.equal(open(key, NONCE, HEADER, []), undefined);
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
        const frame = seal(fast, nonce, header, cut(plaintext, sealCuts));
        assert.equal(toHex(plaintext), before, 'the plaintext is not changed');
        assert.equal(toHex(frame), toHex(seal(slow, nonce, header, cut(plaintext, sealCuts))));
        const opened = open(fast, nonce, header, cut(frame.slice(3), openCuts));
        assert.ok(opened);
        assert.equal(toHex(opened), before);
      }),
    );
  });
}

test('EVP: frames of one key, opened later', () => {
  const key = fresh(implementations('AES-128-GCM')[1]?.[1] ?? nodeAead, 'AES-128-GCM', 16);
  const frames = Array.from({ length: 1000 }, (_, i) => {
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setUint32(0, i);
    return { nonce, frame: seal(key, nonce, HEADER, [new Uint8Array((i * 7) % 5000).fill(i)]), i };
  });
  for (const { nonce, frame, i } of frames) {
    const opened = open(key, nonce, HEADER, [frame.subarray(3)]);
    assert.ok(opened);
    assert.ok(opened.every((byte) => byte === (i & 0xff)));
  }
});

for (const [by, factory] of implementations('AES-128-GCM')) {
  test(`gives no plaintext away with a wrong tag, and leaves what is around it: ${by}`, () => {
    const key = fresh(factory, 'AES-128-GCM', 16);
    const ciphertext = seal(key, NONCE, HEADER, [new Uint8Array(100).fill(1)]).slice(3);
    const before = toHex(ciphertext);
    const room = (): Uint8Array => new Uint8Array(120).fill(5);
    const right = room();
    assert.equal(key.open(NONCE, HEADER, [ciphertext], memoryOf(right), 10), true);
    assert.equal(toHex(right), toHex(room().fill(1, 10, 110)));
    assert.equal(toHex(ciphertext), before, 'the ciphertext stays');
    ciphertext[115] = (ciphertext[115] ?? 0) ^ 1;
    const wrong = room();
    assert.equal(key.open(NONCE, HEADER, [ciphertext], memoryOf(wrong), 10), false);
    assert.equal(toHex(wrong), toHex(room().fill(0, 10, 110)));
  });

  test(`nothing is written outside of the memory that is given: ${by}`, () => {
    const key = fresh(factory, 'AES-128-GCM', 16);
    const ciphertext = seal(key, NONCE, HEADER, [new Uint8Array(100)]).slice(3);
    const room = (length: number) => memoryOf(new Uint8Array(length));
    const refused = withCode('ERR_TCPCRYPT_CRYPTO');
    const data = [new Uint8Array(100)];
    assert.equal(key.seal(NONCE, HEADER, data, room(120), 1), 120);
    for (const [length, at] of [
      [119, 1],
      [118, 0],
      [200, -1],
    ] as const)
      assert.throws(() => key.seal(NONCE, HEADER, data, room(length), at), refused);
    assert.ok(key.open(NONCE, HEADER, [ciphertext], room(101), 1));
    for (const [length, at] of [
      [100, 1],
      [99, 0],
      [200, -1],
    ] as const)
      assert.throws(() => key.open(NONCE, HEADER, [ciphertext], room(length), at), refused);
  });
}

for (const [by, factory] of implementations('AES-128-GCM')) {
  test(`TC-43: erase() overwrites the key, which cannot be used afterwards: ${by}`, () => {
    const bytes = new Uint8Array(16).fill(9);
    const key = factory('AES-128-GCM', bytes);
    seal(key, NONCE, HEADER, [Uint8Array.of(1)]);
    key.erase();
    key.erase();
    assert.ok(bytes.every((byte) => byte === 0));
    assert.throws(() => seal(key, NONCE, HEADER, [Uint8Array.of(1)]), withCode('ERR_TCPCRYPT_CLOSED'));
    assert.throws(() => open(key, NONCE, HEADER, [new Uint8Array(20)]), withCode('ERR_TCPCRYPT_CLOSED'));
  });
}
