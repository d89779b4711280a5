import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { enoOption, findEnoOptions } from '#src/wire/index.js';
import { concat, fromHex, toHex } from '../support/vectors.js';

const found = (area: string): string[] => findEnoOptions(fromHex(area)).map(toHex);

test('ENO-1: an option of kind 69 is found among others, with padding', () => {
  assert.deepEqual(found('020404bc0101450401230000'), ['0123']);
  assert.deepEqual(found('4502'), ['']);
  assert.deepEqual(found(''), []);
});

test('ENO-2: the experimental form, kind 253, is not ENO', () => {
  assert.deepEqual(found('fd06454e0123'), []);
});

test('every ENO option is reported, so that a second one is noticed (ENO-5)', () => {
  assert.deepEqual(found('45032301450324'), ['23', '24']);
});

test('nothing follows the end-of-list option', () => {
  assert.deepEqual(found('00450123'), []);
});

test('a broken list has no ENO option: length 0, 1, past the end, missing', () => {
  for (const tail of ['0800', '0801', '080a00', '08']) assert.deepEqual(found(`450323${tail}`), [], tail);
});

test('property: an option list gives back the ENO options put in; arbitrary bytes never throw', () => {
  const other = fc
    .tuple(fc.integer({ min: 2, max: 255 }), fc.uint8Array({ maxLength: 10 }))
    .filter(([kind]) => kind !== 69)
    .map(([kind, data]) => ({ eno: false, bytes: Uint8Array.of(kind, data.length + 2, ...data) }));
  const nop = fc.constant({ eno: false, bytes: Uint8Array.of(1) });
  const eno = fc.uint8Array({ maxLength: 38 }).map((data) => ({ eno: true, bytes: enoOption(data) }));
  fc.assert(
    fc.property(fc.array(fc.oneof(other, nop, eno), { maxLength: 8 }), (options) => {
      const expected = options
        .filter((option) => option.eno)
        .map((option) => toHex(option.bytes.subarray(2)));
      assert.deepEqual(findEnoOptions(concat(options.map((option) => option.bytes))).map(toHex), expected);
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (area) => void findEnoOptions(area)));
});
