import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteQueue } from '#src/session/byte-queue.js';
import { concat } from '../support/vectors.js';

/** Bytes of memory that the pieces keep alive. */
function retained(pieces: readonly Uint8Array[]): number {
  const buffers = new Set(pieces.map((piece) => piece.buffer));
  return [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
}

test('property: bytes come out in the order in which they went in, however they are cut', () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat({ max: 100 }), fc.nat({ max: 20_000 })), settle: fc.boolean() }),
    fc.record({ take: fc.nat({ max: 30_000 }), way: fc.constantFrom('pieces', 'joined', 'skipped') }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const queue = new ByteQueue();
      let pushed = 0;
      let taken = 0;
      for (const step of steps) {
        if ('push' in step) {
          queue.push(Uint8Array.from({ length: step.push }, () => pushed++ % 251));
          if (step.settle) queue.settle();
        } else {
          const count = Math.min(step.take, queue.length);
          const peeked = queue.peek(Math.min(count, 8)).slice();
          assert.ok(peeked.every((byte, i) => byte === queue.byteAt(i)));
          if (step.way === 'skipped') {
            queue.skip(count);
            taken += count;
            continue;
          }
          const bytes = step.way === 'joined' ? queue.takeJoined(count) : concat(queue.take(count));
          assert.equal(bytes.length, count);
          assert.deepEqual(bytes.slice(0, 8).toString(), peeked.toString());
          assert.ok(bytes.every((byte) => byte === taken++ % 251));
        }
        assert.equal(queue.length, pushed - taken);
      }
    }),
    { numRuns: 200 },
  );
});

test('65536 chunks of one byte keep little more memory than their content', () => {
  const queue = new ByteQueue();
  for (let i = 0; i < 65_536; i++) {
    queue.push(Uint8Array.of(i));
    queue.settle();
  }
  const pieces = queue.take(65_536);
  assert.ok(pieces.length <= 9);
  assert.ok(retained(pieces) <= 65_536 + 8192);
  assert.ok(concat(pieces).every((byte, i) => byte === i % 256));
});

test('a short rest of a large chunk does not keep the chunk', () => {
  const queue = new ByteQueue();
  queue.push(new Uint8Array(1_000_000));
  queue.take(999_000);
  queue.settle();
  assert.ok(retained(queue.take(1000)) <= 8192);
});
