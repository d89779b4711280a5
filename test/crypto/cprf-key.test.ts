import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cprf, fastCprfKey, plainCprfKey } from '#src/crypto/index.js';
import { toHex } from '../support/vectors.js';

const KEY = new Uint8Array(32).fill(3);
const NOTHING = new Uint8Array();

test('property: the fast CPRF is its twin, and that is CPRF', () => {
  assert.ok(fastCprfKey);
  const makers = [fastCprfKey, plainCprfKey];
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 64 }),
      fc.nat({ max: 255 }),
      fc.uint8Array({ maxLength: 20 }),
      fc.integer({ min: 1, max: 64 }),
      (key, constant, context, length) => {
        const expected = cprf(key, [Uint8Array.of(constant), context], length);
        for (const make of makers) {
          const prepared = make(key);
          assert.equal(toHex(prepared.derive(constant, context, length)), toHex(expected));
          assert.equal(toHex(prepared.clone().derive(constant, context, length)), toHex(expected));
        }
      },
    ),
  );
});

test('keys in use at the same time, and what they gave, are independent of each other', () => {
  assert.ok(fastCprfKey);
  const [one, other] = [fastCprfKey(KEY), fastCprfKey(KEY.map((byte) => byte + 1))];
  const first = one.derive(1, NOTHING, 32);
  const before = toHex(first);
  other.derive(1, NOTHING, 32);
  assert.equal(toHex(first), before);
  assert.equal(toHex(one.derive(1, NOTHING, 32)), before);
  const clone = one.clone();
  one.erase();
  assert.equal(toHex(clone.derive(1, NOTHING, 32)), before);
  assert.notEqual(toHex(one.derive(1, NOTHING, 32)), before);
});
