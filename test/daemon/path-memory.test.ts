import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PathMemory, PLAIN_ANSWERS } from '#src/daemon/path-memory.js';

test('a destination is plain after one plain answer, for a while, and no other port or address is', () => {
  const memory = new PathMemory(1000);
  memory.remember('10.0.0.1', 80, false, 0);
  assert.ok(memory.isPlain('10.0.0.1', 80, 999));
  assert.ok(!memory.isPlain('10.0.0.1', 81, 999));
  assert.ok(!memory.isPlain('10.0.0.2', 80, 999));
  assert.ok(!memory.isPlain('10.0.0.1', 80, 1000));
  assert.equal(memory.size, 0);
});

test('a destination that encrypts is asked again until it has been plain several times in a row', () => {
  const memory = new PathMemory();
  memory.remember('10.0.0.1', 80, true, 0);
  for (let i = 1; i < PLAIN_ANSWERS; i++) memory.remember('10.0.0.1', 80, false, 0);
  assert.ok(!memory.isPlain('10.0.0.1', 80, 0));
  memory.remember('10.0.0.1', 80, true, 0);
  memory.remember('10.0.0.1', 80, false, 0);
  assert.ok(!memory.isPlain('10.0.0.1', 80, 0));
  for (let i = 1; i < PLAIN_ANSWERS; i++) memory.remember('10.0.0.1', 80, false, 0);
  assert.ok(memory.isPlain('10.0.0.1', 80, 0));
});

test('no more than so many destinations are remembered: the one that answered longest ago goes first', () => {
  const memory = new PathMemory(1000, 2);
  memory.remember('10.0.0.1', 80, false, 0);
  memory.remember('10.0.0.2', 80, false, 0);
  memory.remember('10.0.0.1', 80, false, 0);
  memory.remember('10.0.0.3', 80, false, 0);
  assert.equal(memory.size, 2);
  assert.ok(memory.isPlain('10.0.0.1', 80, 0));
  assert.ok(!memory.isPlain('10.0.0.2', 80, 0));
  memory.flush();
  assert.equal(memory.size, 0);
});
