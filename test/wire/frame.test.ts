import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeFrameHeader,
  decodePlaintextHead,
  encodeFrameHeader,
  encodePlaintextHead,
  StreamOffset,
} from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { concat, fromHex, toHex } from '../support/vectors.js';

test('TC-34: reserved bits of the header are ignored, and sent as 0', () => {
  assert.deepEqual(decodeFrameHeader(fromHex('ff0123')), { rekey: true, clen: 0x123 });
  assert.deepEqual(decodeFrameHeader(fromHex('feffff')), { rekey: false, clen: 0xffff });
  assert.equal(toHex(encodeFrameHeader({ rekey: true, clen: 0x123 })), '010123');
  assert.equal(toHex(encodeFrameHeader({ rekey: false, clen: 0xffff })), '00ffff');
});

test('TC-34: reserved flags of the plaintext are ignored', () => {
  assert.deepEqual(decodePlaintextHead(fromHex('fc')), { fin: false, urgent: undefined, length: 1 });
  assert.deepEqual(decodePlaintextHead(fromHex('fd')), { fin: true, urgent: undefined, length: 1 });
});

test('a plaintext without flags, or with URGp but without its field, is malformed', () => {
  const malformed = withCode('ERR_TCPCRYPT_FRAME_PLAINTEXT');
  for (const bytes of ['', '02', '0200', '0300'])
    assert.throws(() => decodePlaintextHead(fromHex(bytes)), malformed);
  assert.throws(() => decodePlaintextHead(fromHex('00000000'), 1, 1), malformed);
  assert.throws(
    () => decodePlaintextHead(fromHex('00020000'), 1, 3),
    malformed,
    'what is behind it does not count',
  );
});

test('property: the head of a plaintext is read as it was written, wherever it stands', () => {
  const urgent = fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined });
  const bytes = fc.uint8Array({ maxLength: 10 });
  fc.assert(
    fc.property(fc.boolean(), urgent, bytes, bytes, bytes, (fin, urgent, before, data, after) => {
      const head = encodePlaintextHead(fin, urgent);
      const end = before.length + head.length + data.length;
      const decoded = decodePlaintextHead(concat([before, head, data, after]), before.length, end);
      assert.deepEqual(decoded, { fin, urgent, length: head.length });
    }),
  );
});

test('property: StreamOffset counts modulo 2^64 and makes the nonce that bigint arithmetic makes', () => {
  const near = fc.constantFrom(0n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n);
  const start = fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.tuple(near, fc.bigInt({ min: -70_000n, max: 70_000n })).map(([a, b]) => BigInt.asUintN(64, a + b)),
  );
  const lengths = fc.array(fc.integer({ min: 20, max: 65_538 }), { maxLength: 5 });
  const nr = fc.uint8Array({ minLength: 12, maxLength: 12 });
  fc.assert(
    fc.property(start, lengths, nr, (start, lengths, nr) => {
      const offset = new StreamOffset(start);
      let expected = start;
      for (const length of lengths) {
        offset.advance(length);
        expected = BigInt.asUintN(64, expected + BigInt(length));
      }
      assert.equal(offset.valueOf(), expected);
      const nonce = (BigInt(`0x${toHex(nr)}`) ^ expected).toString(16).padStart(24, '0');
      const before = toHex(nr);
      assert.equal(toHex(offset.nonce(nr)), nonce);
      assert.equal(toHex(offset.nonce(Buffer.from(nr))), nonce);
      assert.equal(toHex(nr), before, 'NR is left alone');
    }),
    { numRuns: 500 },
  );
});
