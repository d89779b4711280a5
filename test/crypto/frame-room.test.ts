import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FrameRoom } from '#src/crypto/frame-room.js';

/** Addresses that tell memory and offset. */
function room(): FrameRoom {
  const known: ArrayBufferLike[] = [];
  return new FrameRoom((bytes) => {
    if (!known.includes(bytes.buffer)) known.push(bytes.buffer);
    return known.indexOf(bytes.buffer) * 1e6 + bytes.byteOffset;
  });
}

test('frames that are out share no byte, whatever their sizes', () => {
  const memory = room();
  const taken = new Map<ArrayBufferLike, [number, number][]>();
  for (let i = 0; i < 300; i++) {
    const frame = memory.take(20 + ((i * 977) % 65_500));
    const others = taken.get(frame.buffer) ?? [];
    const [from, to] = [frame.byteOffset, frame.byteOffset + frame.length];
    for (const [start, end] of others) assert.ok(to <= start || from >= end);
    taken.set(frame.buffer, [...others, [from, to]]);
  }
});

test('the address is that of the frame', () => {
  const memory = room();
  for (const length of [100, 5000, 30_000, 65_538, 100, 70_000]) {
    const frame = memory.take(length);
    assert.equal(frame.length, length);
    assert.equal(memory.address % 1e6, frame.byteOffset);
  }
});

test('a large frame that comes back is used again, once', () => {
  const memory = room();
  const frame = memory.take(50_000);
  memory.takeBack(frame);
  memory.takeBack(frame);
  const again = memory.take(40_000);
  assert.equal(again.buffer, frame.buffer);
  assert.equal(again.length, 40_000);
  assert.notEqual(memory.take(40_000).buffer, frame.buffer);
});

test('memory that is too small for the next frame makes room for larger', () => {
  const memory = room();
  memory.takeBack(memory.take(33_000));
  const larger = memory.take(60_000);
  memory.takeBack(larger);
  assert.equal(memory.take(33_000).buffer, larger.buffer);
});

test('a small frame that comes back is used again, if it was the last one', () => {
  const memory = room();
  const [first, second] = [memory.take(100), memory.take(200)];
  memory.takeBack(first);
  assert.notEqual(memory.take(100).byteOffset, first.byteOffset, 'another one is behind it');
  const last = memory.take(50);
  memory.takeBack(last);
  assert.equal(memory.take(60).byteOffset, last.byteOffset);
  assert.ok(second.byteOffset + second.length <= last.byteOffset);
});

test('a small frame comes back once, and whole', () => {
  const memory = room();
  const frame = memory.take(100);
  memory.takeBack(frame.subarray(40));
  const next = memory.take(100);
  assert.equal(next.byteOffset, frame.byteOffset + 100);
  memory.takeBack(next);
  const again = memory.take(100);
  assert.equal(again.byteOffset, next.byteOffset);
  memory.takeBack(next);
  assert.equal(memory.take(100).byteOffset, again.byteOffset + 100, 'it is another’s by now');
});

test('what is not a frame of ours is ignored', () => {
  const memory = room();
  const small = memory.take(100);
  memory.takeBack(Buffer.alloc(65_538));
  memory.takeBack(Buffer.alloc(100));
  assert.notEqual(memory.take(100).byteOffset, small.byteOffset);
});

test('no more than 1 MiB waits for its next use', () => {
  const memory = room();
  const frames = Array.from({ length: 100 }, () => memory.take(65_538));
  for (const frame of frames) memory.takeBack(frame);
  const again = new Set(Array.from({ length: 100 }, () => memory.take(65_538).buffer));
  assert.equal(frames.filter(({ buffer }) => again.has(buffer)).length, 16);
});
