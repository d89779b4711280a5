/** A short soak; `npm run soak` is the long one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { skip } from '../daemon/support/pair.js';
import { type ClientRecord, type ConnectionRecord, judge } from './judge.js';
import { type SoakFigures, soak } from './soak.js';

/** Those of listeners, log and control come and go; a connection has two. */
const SPARE_DESCRIPTORS = 8;

const SMALL = { short: 600, long: 15, seconds: 5, restarts: 2, seed: 1 };

function assertNothingStays({ daemons, violations }: SoakFigures, workers: number): void {
  assert.deepEqual(violations, []);
  for (const { host, descriptors, memory, left } of daemons) {
    assert.deepEqual(left, { relayed: 0, held: 0, standIns: 0 }, host);
    assert.ok(descriptors[1] <= descriptors[0] + SPARE_DESCRIPTORS * workers, `${host}: ${descriptors}`);
    assert.ok(memory.most < 400 * workers, `${host}: ${memory.most} MiB`);
  }
}

test('600 short and 15 long connections, programs killed, a daemon restarted: no byte is lost, nothing stays', {
  skip,
}, async () => {
  const figures = await soak({ ...SMALL, family: 4, policy: 'private-or-clear', workers: 1 });
  assertNothingStays(figures, 1);
  assert.ok(figures.clean > 300, JSON.stringify(figures));
  assert.ok(figures.encrypted > 150, JSON.stringify(figures));
  assert.ok(figures.wire.plaintext > 100, 'the watch sees what was plain, as no daemon ran at the other end');
});

test('the same over IPv6, under the policy private, with two workers: and nothing is on the wire in plaintext', {
  skip,
}, async () => {
  const figures = await soak({ ...SMALL, family: 6, policy: 'private', workers: 2 });
  assertNothingStays(figures, 2);
  assert.ok(figures.clean > 200, JSON.stringify(figures));
  assert.ok(figures.encrypted > 200, JSON.stringify(figures));
  assert.ok(figures.wire.segments > 2000, JSON.stringify(figures));
  for (const { workersLost } of figures.daemons) assert.ok(workersLost > 0, JSON.stringify(figures));
});

test('the judge sees what it must', () => {
  const record = { plan: 'up-down', how: 'end', sent: 5, got: 7, altered: false };
  const verdict = (client: Partial<ClientRecord>, server?: Partial<ConnectionRecord>) =>
    judge(
      new Map([[1, { id: 1, ...record, up: 5, down: 7, ...client }]]),
      new Map(server === undefined ? [] : [[1, { id: 1, ...record, sent: 7, got: 5, ...server }]]),
      1,
    ).violations.map((violation) => violation.replace(/:.*/, ''));
  assert.deepEqual(verdict({}, {}), []);
  assert.deepEqual(verdict({ got: 6 }, {}), ['lost bytes']);
  assert.deepEqual(verdict({}, { got: 4 }), ['lost bytes']);
  assert.deepEqual(verdict({}, { how: 'reset' }), ['only the client saw an end']);
  assert.deepEqual(verdict({ plan: 'duplex' }, { how: 'reset' }), []);
  assert.deepEqual(verdict({ altered: true }, {}), ['altered bytes']);
  assert.deepEqual(verdict({ how: 'reset' }, { altered: true }), ['altered bytes']);
  assert.deepEqual(verdict({ how: 'reset', got: 0 }, { how: 'end', got: 3 }), [
    'what was cut off looked complete',
  ]);
  assert.deepEqual(verdict({ how: 'reset', got: 0 }, { how: 'reset', got: 3 }), []);
  assert.deepEqual(verdict({ how: 'i closed', got: 0 }, { got: 3 }), []);
  assert.deepEqual(verdict({ got: 3 }), [], 'the server was killed');
});
