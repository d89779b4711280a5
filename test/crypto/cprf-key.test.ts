import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CprfKey, cprf, fastCprfKey, plainCprfKey } from '#src/crypto/index.js';
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
          for (const one of [prepared, prepared.clone()]) {
            const room = new Uint8Array(70).fill(9);
            one.derive(constant, context, room, length);
            assert.equal(toHex(room.subarray(0, length)), toHex(expected));
            assert.ok(room.subarray(length).every((byte) => byte === 9));
          }
        }
      },
    ),
  );
});

test('keys in use at the same time are independent of each other, and a clone of its original', () => {
  assert.ok(fastCprfKey);
  const value = (key: CprfKey): string => {
    const room = new Uint8Array(32);
    key.derive(1, NOTHING, room, room.length);
    return toHex(room);
  };
  const [one, other] = [fastCprfKey(KEY), fastCprfKey(KEY.map((byte) => byte + 1))];
  const expected = toHex(cprf(KEY, [Uint8Array.of(1)], 32));
  assert.equal(value(one), expected);
  assert.notEqual(value(other), expected);
  assert.equal(value(one), expected);
  const clone = one.clone();
  one.erase();
  assert.equal(value(clone), expected);
  assert.notEqual(value(one), expected);
});
