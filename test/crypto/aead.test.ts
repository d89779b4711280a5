import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AeadName, nodeAead, TAG_LENGTH } from '#src/crypto/index.js';
import { AEADS } from '#src/wire/index.js';
import { concat, toHex } from '../support/vectors.js';

const ROWS = Object.values(AEADS);
const NONCE = new Uint8Array(12).fill(7);
const HEADER = Uint8Array.of(0, 1, 2);
const fresh = (name: AeadName, keyLength: number) => nodeAead(name, new Uint8Array(keyLength).fill(9));

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

for (const { name, keyLength, tagLength } of ROWS) {
  test(`${name}: header, ciphertext and tag come in order, in one piece when small`, () => {
    assert.equal(tagLength, TAG_LENGTH);
    const key = fresh(name, keyLength);
    const small = key.seal(NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(64)]);
    assert.equal(small.length, 1);
    assert.equal(concat(small).length, 3 + 65 + TAG_LENGTH);
    assert.equal(toHex(concat(small).subarray(0, 3)), toHex(HEADER));
    const large = key.seal(NONCE, HEADER, [Uint8Array.of(0), new Uint8Array(10_000)]);
    assert.equal(concat(large).length, 3 + 10_001 + TAG_LENGTH);
    // The same key stream, whatever the number of pieces.
    assert.equal(toHex(concat(large).subarray(3, 68)), toHex(concat(small).subarray(3, 68)));
  });

  test(`${name}: property: what was sealed is opened, however both are cut, and one changed bit is noticed`, () => {
    const sizes = fc.array(fc.nat({ max: 3000 }), { maxLength: 4 });
    const plaintext = fc
      .integer({ min: 1, max: 5000 })
      .map((length) => new Uint8Array(length).map((_, i) => i * 7));
    fc.assert(
      fc.property(plaintext, sizes, sizes, fc.nat(), (plaintext, sealCuts, openCuts, flip) => {
        const key = fresh(name, keyLength);
        const frame = concat(key.seal(NONCE, HEADER, cut(plaintext, sealCuts)));
        const ciphertext = frame.slice(3);
        const opened = key.open(NONCE, HEADER, cut(ciphertext, openCuts));
        assert.ok(opened);
        assert.equal(toHex(concat(opened)), toHex(plaintext));

        const at = flip % ciphertext.length;
        ciphertext[at] = (ciphertext[at] ?? 0) ^ (1 << (flip % 8));
        assert.equal(key.open(NONCE, HEADER, cut(ciphertext, openCuts)), undefined);
      }),
    );
  });

  test(`${name}: another header, nonce or a ciphertext shorter than a tag does not open`, () => {
    const key = fresh(name, keyLength);
    const ciphertext = concat(key.seal(NONCE, HEADER, [Uint8Array.of(1)])).subarray(3);
    assert.ok(key.open(NONCE, HEADER, [ciphertext]));
    assert.equal(key.open(NONCE, Uint8Array.of(1, 1, 2), [ciphertext]), undefined);
    assert.equal(key.open(new Uint8Array(12), HEADER, [ciphertext]), undefined);
    assert.equal(key.open(NONCE, HEADER, [ciphertext.subarray(0, 15)]), undefined);
    assert.equal(key.open(NONCE, HEADER, []), undefined);
  });
}

test('TC-43: erase() overwrites the key', () => {
  const bytes = new Uint8Array(16).fill(9);
  const key = nodeAead('AES-128-GCM', bytes);
  key.erase();
  assert.ok(bytes.every((byte) => byte === 0));
});
