import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fastHmac, nodeHmac } from '#src/crypto/index.js';
import { toHex } from '../support/vectors.js';

test('property: the fast HMAC is its twin, for every key and every number of parts', () => {
  const fast = fastHmac;
  assert.ok(fast);
  const parts = fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 4 });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), parts, (key, parts) => {
      assert.equal(toHex(fast(key, parts)), toHex(nodeHmac(key, parts)));
    }),
  );
});

test('what an HMAC returns is not what the next one returns', () => {
  const fast = fastHmac;
  assert.ok(fast);
  const key = new Uint8Array(32);
  const first = fast(key, [Uint8Array.of(1)]);
  const before = toHex(first);
  fast(key, [Uint8Array.of(2)]);
  assert.equal(toHex(first), before);
});
