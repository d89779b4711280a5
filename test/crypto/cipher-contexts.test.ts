/** OpenSSL's contexts are shared by all keys: none may see another's, and an erased one must be gone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AeadKey, type AeadName, evpAead, nodeAead } from '#src/crypto/index.js';
import { openSsl } from '#src/crypto/openssl.js';
import { open, seal } from '../support/aead.js';
import { toHex } from '../support/vectors.js';

const NAMES: readonly (readonly [AeadName, number])[] = [
  ['AES-128-GCM', 16],
  ['AES-256-GCM', 32],
  ['CHACHA20-POLY1305', 32],
];
const HEADER = Uint8Array.of(0, 0, 26);
/** More than there are contexts. */
const KEYS = 700;

const bytes = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7) & 0xff);

/** What of OpenSSL `step` calls. */
function calls(step: () => void): Record<string, number> {
  const functions = openSsl() as unknown as Record<string, (...args: number[]) => unknown>;
  const originals = { ...functions };
  const counts: Record<string, number> = {};
  for (const [name, original] of Object.entries(originals)) {
    functions[name] = (...args) => {
      counts[name] = (counts[name] ?? 0) + 1;
      return original(...args);
    };
  }
  step();
  Object.assign(functions, originals);
  return counts;
}

for (const [name, length] of NAMES) {
  const fast = evpAead(name);
  assert.ok(fast);
  const make = (seed: number): readonly [AeadKey, AeadKey] => [
    fast(name, bytes(length, seed)),
    nodeAead(name, bytes(length, seed)),
  ];

  test(`${name}: many keys in use at once, in any order, each seal and open with their own`, () => {
    const keys = Array.from({ length: KEYS }, (_, i) => make(i));
    const { newCipherContext = 0, freeCipherContext = 0 } = calls(() => {
      for (let i = 0; i < 3 * KEYS; i++) {
        const at = (i * 263) % KEYS;
        const [key, twin] = keys[at] ?? [];
        assert.ok(key && twin);
        const nonce = bytes(12, i);
        const frame = seal(key, nonce, HEADER, [bytes(9, i)]);
        assert.equal(toHex(frame), toHex(seal(twin, nonce, HEADER, [bytes(9, i)])));
        const opened = open(key, nonce, HEADER, [frame.slice(HEADER.length)]);
        assert.ok(opened);
        assert.equal(toHex(opened), toHex(bytes(9, i)));
        if (i % 50 === 0) key.erase();
        if (i % 50 === 0) keys[at] = make(at);
      }
    });
    const held = newCipherContext - freeCipherContext;
    assert.ok(held <= 2 * 256, `${held} contexts`);
    for (const [key] of keys) key.erase();
  });

  test(`${name}: a key that is erased leaves its context, and one that was never used has none`, () => {
    const [used] = make(1);
    seal(used, bytes(12, 1), HEADER, [bytes(9, 1)]);
    // A context that keeps something of an old key is freed; else a key of zeros takes its place.
    const expected = name === 'CHACHA20-POLY1305' ? { freeCipherContext: 1 } : { initCipher: 1 };
    assert.deepEqual(
      calls(() => used.erase()),
      expected,
    );
    assert.throws(() => seal(used, bytes(12, 1), HEADER, [bytes(9, 1)]));
    const [unused] = make(2);
    assert.deepEqual(
      calls(() => unused.erase()),
      {},
    );
  });
}
