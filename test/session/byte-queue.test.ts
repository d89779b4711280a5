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
    fc.record({
      push: fc.oneof(fc.nat({ max: 100 }), fc.nat({ max: 20_000 })),
      way: fc.constantFrom('kept', 'settled', 'lent'),
    }),
    fc.record({ take: fc.nat({ max: 30_000 }), way: fc.constantFrom('pieces', 'joined', 'skipped') }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const queue = new ByteQueue();
      let pushed = 0;
      let taken = 0;
      for (const step of steps) {
        if ('push' in step) {
          const chunk = Uint8Array.from({ length: step.push }, () => pushed++ % 251);
          if (step.way === 'lent') queue.lend(chunk);
          else queue.push(chunk);
          if (step.way !== 'kept') queue.settle();
          if (step.way === 'lent') chunk.fill(255); // its owner's again
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
          assert.deepEqual([...bytes.subarray(0, 8)], [...peeked]);
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

test('rests of what was lent are copied into memory that is used again, but not while it is needed', () => {
  const queue = new ByteQueue();
  const lent = new Uint8Array(100_000);
  const memories = new Set<ArrayBufferLike>();
  for (let round = 0; round < 20; round++) {
    // One, two or three parts of a message wait at once.
    for (let part = 0; part <= round % 3; part++) {
      queue.lend(lent.fill(16 * round + part).subarray(0, 20_000 + 10_000 * part));
      queue.settle();
    }
    const pieces = queue.take(queue.length);
    assert.equal(pieces.length, 1 + (round % 3));
    for (const [part, piece] of pieces.entries()) {
      assert.ok(piece.every((byte) => byte === ((16 * round + part) & 0xff)));
      memories.add(piece.buffer);
    }
    queue.settle();
  }
  assert.ok(memories.size <= 6, `${memories.size}`);
});
