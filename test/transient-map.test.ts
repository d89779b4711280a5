/** A Map whose entries leave nothing behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { TransientMap } from '#src/transient-map.js';

interface Thing {
  readonly name: string;
}

const thing = (name: string): Thing => ({ name });

test('works as a Map: one value for each key, in the order in which the keys came', () => {
  const map = new TransientMap<string, Thing>();
  assert.equal(map.first, undefined);
  assert.equal(map.delete('a'), false);
  const [a, b, c] = ['a', 'b', 'c'].map(thing) as [Thing, Thing, Thing];
  map.set('a', a);
  map.set('b', b);
  map.set('a', c);
  assert.equal(map.size, 2);
  assert.equal(map.first, c);
  assert.deepEqual([...map.values()], [c, b]);
  assert.equal(map.get('a'), c);
  assert.equal(map.delete('a'), true);
  assert.equal(map.has('a'), false);
  assert.equal(map.get('a'), undefined);
  assert.equal(map.has('b'), true);
  assert.equal(map.first, b);
  assert.deepEqual([...map.values()], [b]);
});

test('entries may be deleted while they are gone through', () => {
  const map = new TransientMap<number, { readonly key: number }>();
  for (let key = 0; key < 40; key++) map.set(key, { key });
  const seen: number[] = [];
  for (const { key } of map.values()) {
    seen.push(key);
    map.delete(key);
    map.delete(key + 1);
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 20 }, (_, i) => i * 2),
  );
  assert.equal(map.size, 0);
});

test('what was deleted does not survive scavenges in former tables', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
  const KILOBYTES = 8;
  const map = new TransientMap<number, { readonly bulk: unknown[] }>();
  const pass = (from: number, to: number): void => {
    for (let i = from; i < to; i++) {
      map.set(i, { bulk: new Array((KILOBYTES * 1024) / 8).fill(i) });
      map.delete(i - 8);
    }
  };
  pass(0, 100);
  collect(); // the table of now is in the old space, and will soon be a former one
  const before = getHeapStatistics().used_heap_size;
  pass(100, 1100);
  collect({ type: 'minor' });
  collect({ type: 'minor' });
  const left = (getHeapStatistics().used_heap_size - before) / 1024;
  // Of a Map all 8000 KB are left.
  assert.ok(left < 800, `${left} KB are left`);
});
