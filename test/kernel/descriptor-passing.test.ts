import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { test } from 'node:test';
import {
  descriptorChannel,
  emptyChannel,
  sendDescriptors,
  takeDescriptors,
} from '#src/kernel/descriptor-passing.js';

const files = ['/dev/null', '/dev/zero', '/dev/full'].map((path) => openSync(path, 'r'));
const devices = (fds: readonly number[]): number[] => fds.map((fd) => fstatSync(fd).rdev);

test('descriptors and text arrive as they were sent, message by message', () => {
  const [a, b] = descriptorChannel();
  assert.equal(takeDescriptors(b), undefined);
  const sixteen = Array.from({ length: 16 }, (_, at) => files[at % 3] ?? -1);
  const sent = [
    { descriptors: files, text: 'three' },
    { descriptors: [], text: 'none, and ü' },
    { descriptors: sixteen, text: 'x'.repeat(1024) },
    { descriptors: files.slice(0, 1), text: '1' },
  ];
  for (const { descriptors, text } of sent) sendDescriptors(a, descriptors, text);
  for (const { descriptors, text } of sent) {
    const taken = takeDescriptors(b);
    assert.equal(taken?.text, text);
    assert.deepEqual(devices(taken.descriptors), devices(descriptors));
    for (const fd of taken.descriptors) closeSync(fd);
  }
  assert.equal(takeDescriptors(b), undefined);
  assert.throws(() => sendDescriptors(a, [...sixteen, 0], 'too many'), RangeError);
  sendDescriptors(a, [], '');
  assert.deepEqual(takeDescriptors(b), { descriptors: [], text: ' ' });
  sendDescriptors(a, files, 'nobody wants these');
  emptyChannel(b);
  for (const fd of [a, b]) closeSync(fd);
});
