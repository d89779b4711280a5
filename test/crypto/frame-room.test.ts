import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameRoom } from '#src/crypto/frame-room.js';

/** Addresses that tell memory and offset. */
function room(): FrameRoom {
  const known: ArrayBufferLike[] = [];
  return new FrameRoom((bytes) => {
    if (!known.includes(bytes.buffer)) known.push(bytes.buffer);
    return { bytes, address: known.indexOf(bytes.buffer) * 1e6 + bytes.byteOffset };
  });
}

test('frames that are out share no byte, whatever their sizes', () => {
  const memory = room();
  const taken = new Map<ArrayBufferLike, [number, number][]>();
  for (let i = 0; i < 300; i++) {
    const { bytes } = memory.take(20 + ((i * 977) % 65_500));
    const others = taken.get(bytes.buffer) ?? [];
    const [from, to] = [bytes.byteOffset, bytes.byteOffset + bytes.length];
    for (const [start, end] of others) assert.ok(to <= start || from >= end);
    taken.set(bytes.buffer, [...others, [from, to]]);
  }
});

test('property: nothing that is out is given away again, whatever comes back, and in which order', () => {
  const step = fc.oneof(
    fc.record({ take: fc.oneof(fc.integer({ min: 20, max: 300 }), fc.integer({ min: 20, max: 300_000 })) }),
    fc.record({ back: fc.nat(), part: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const memory = room();
      const out: Uint8Array[] = [];
      for (const step of steps) {
        if ('take' in step) {
          const { bytes } = memory.take(step.take);
          assert.equal(bytes.length, step.take);
          for (const other of out)
            assert.ok(
              other.buffer !== bytes.buffer ||
                other.byteOffset + other.length <= bytes.byteOffset ||
                bytes.byteOffset + bytes.length <= other.byteOffset,
            );
          out.push(bytes);
        } else if (out.length > 0) {
          const [bytes] = out.splice(step.back % out.length, 1);
          if (bytes !== undefined) memory.takeBack(step.part ? bytes.subarray(10) : bytes);
        }
      }
    }),
  );
});

test('the address is that of the frame', () => {
  const memory = room();
  for (const length of [100, 5000, 30_000, 65_538, 100, 70_000]) {
    const { bytes, address } = memory.take(length);
    assert.equal(bytes.length, length);
    assert.equal(address % 1e6, bytes.byteOffset);
  }
});

test('a large frame that comes back is used again, once', () => {
  const memory = room();
  const { bytes } = memory.take(50_000);
  memory.takeBack(bytes);
  memory.takeBack(bytes);
  const again = memory.take(40_000).bytes;
  assert.equal(again.buffer, bytes.buffer);
  assert.equal(again.length, 40_000);
  assert.notEqual(memory.take(40_000).bytes.buffer, bytes.buffer);
});

test('so does one that comes back late, and only its end', () => {
  const memory = room();
  const { bytes } = memory.take(50_000);
  memory.take(50_000);
  memory.takeBack(bytes.subarray(20_000));
  assert.equal(memory.take(50_000).bytes.buffer, bytes.buffer);
});

test('bulk in pieces of one length needs no memory', () => {
  const memory = room();
  const first = memory.take(65_576);
  memory.takeBack(first.bytes);
  assert.equal(memory.take(65_576), first);
});

test('a frame has no memory that is too small for it, nor much too large', () => {
  const memory = room();
  const small = memory.take(5000).bytes;
  const large = memory.take(300_000).bytes;
  memory.takeBack(small);
  memory.takeBack(large);
  assert.notEqual(memory.take(30_000).bytes.buffer, large.buffer);
  assert.equal(memory.take(200_000).bytes.buffer, large.buffer);
  assert.equal(memory.take(6000).bytes.buffer, small.buffer);
});

test('a small frame that comes back is used again, if it was the last one', () => {
  const memory = room();
  const [first, second] = [memory.take(100).bytes, memory.take(200).bytes];
  memory.takeBack(first);
  assert.notEqual(memory.take(100).bytes.byteOffset, first.byteOffset, 'another one is behind it');
  const last = memory.take(50).bytes;
  memory.takeBack(last);
  assert.equal(memory.take(60).bytes.byteOffset, last.byteOffset);
  assert.ok(second.byteOffset + second.length <= last.byteOffset);
});

test('a small frame comes back once, and whole', () => {
  const memory = room();
  const frame = memory.take(100).bytes;
  memory.takeBack(frame.subarray(40));
  const next = memory.take(100).bytes;
  assert.equal(next.byteOffset, frame.byteOffset + 100);
  memory.takeBack(next);
  const again = memory.take(100).bytes;
  assert.equal(again.byteOffset, next.byteOffset);
  memory.takeBack(next);
  assert.equal(memory.take(100).bytes.byteOffset, again.byteOffset + 100, 'it is another’s by now');
});

test('what is not a frame of ours is ignored', () => {
  const memory = room();
  const small = memory.take(100).bytes;
  memory.takeBack(Buffer.alloc(65_538));
  memory.takeBack(Buffer.alloc(100));
  assert.notEqual(memory.take(100).bytes.byteOffset, small.byteOffset);
});

test('no more than 1 MiB waits for its next use, and no more than 17 are expected back', () => {
  const memory = room();
  const frames = Array.from({ length: 100 }, () => memory.take(65_536).bytes);
  for (const frame of frames) memory.takeBack(frame);
  const again = new Set(Array.from({ length: 100 }, () => memory.take(65_536).bytes.buffer));
  assert.equal(frames.filter(({ buffer }) => again.has(buffer)).length, 16);
});
