/** The rig's TCP by itself: what it promises is what the other tests of this folder stand on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../support/random.js';
import { Clock } from './clock.js';
import { HOST, PATH, runScenario } from './connection.js';
import type { HostSettings } from './host.js';
import { SIDES } from './path.js';
import type { Segment } from './segment.js';

const PLAIN: HostSettings = { ...HOST, eno: { ...HOST.eno, speaksEno: false } };

test('property: a plain connection on a bad path delivers every byte, in order, and the end', () => {
  for (let seed = 0; seed < 100; seed++) {
    const random = new SeededRandom(seed);
    const host: HostSettings = {
      ...PLAIN,
      tcp: { mss: 536, ragged: true, receiveBuffer: random.pick([2000, 65_536]) },
    };
    const path = { ...PATH, jitter: random.pick([0, 50, 2000]), loss: 20, copies: 20, cuts: 30 };
    const steps = SIDES.flatMap((who) => [
      { after: 1, who, operation: { what: 'pause' } as const },
      { after: 1, who, operation: { what: 'write', size: random.below(30_000) } as const },
      { after: random.below(5000), who, operation: { what: 'resume' } as const },
      { after: 1, who, operation: { what: 'end' } as const },
    ]);
    const opener = random.pick([...SIDES, 'both' as const]);
    const hosts = { client: host, server: host };
    const [result] = runScenario({ seed, connections: [{ opener, hosts, path, steps }] });
    assert.ok(result?.client.endSeen && result.server.endSeen, `seed ${seed}`);
    for (const side of SIDES) checkRetransmissions(result.sent[side]);
  }
});

/** The same sequence number is the same byte, however often it is sent. */
function checkRetransmissions(segments: readonly Segment[]): void {
  const bytes = new Map<number, number>();
  for (const { seq, data } of segments)
    data.forEach((byte, i) => {
      const at = (seq + i) >>> 0;
      assert.equal(bytes.get(at) ?? byte, byte);
      bytes.set(at, byte);
    });
}

test('a connection that nobody answers ends in a timeout, and one that is refused in a reset', () => {
  const step = { after: 0, who: 'client', operation: { what: 'write', size: 10 } } as const;
  const dead = {
    opener: 'client',
    hosts: { client: HOST, server: HOST },
    path: { ...PATH, loss: 100 },
    steps: [step],
  } as const;
  const [lost] = runScenario({ seed: 1, connections: [dead] });
  assert.equal(lost?.client.resetSeen, 'timeout');
  const reset = { after: 0, who: 'server', operation: { what: 'reset' } } as const;
  const [refused] = runScenario({ seed: 1, connections: [{ ...dead, path: PATH, steps: [reset] }] });
  assert.equal(refused?.client.resetSeen, 'refused');
});

test('a livelock is noticed', () => {
  const clock = new Clock();
  const again = (): void => {
    clock.after(1, again);
  };
  again();
  assert.throws(() => clock.run(1000), /livelock/);
});

test('what is due happens in the order of its time, and of its request', () => {
  const clock = new Clock();
  const random = new SeededRandom(1);
  const happened: number[] = [];
  for (let i = 0; i < 200; i++) {
    const at = random.below(20);
    const timer = clock.after(at, () => happened.push(at * 1000 + i));
    if (i % 7 === 0) timer.cancel();
  }
  clock.run(1000);
  assert.deepEqual(
    happened,
    happened.toSorted((a, b) => a - b),
  );
  assert.equal(happened.length, 200 - 29);
});
