/** Daemons resume each other's sessions, in both directions; one that was restarted has forgotten them. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DaemonProcess, LogLine } from '#src/demo/daemons.js';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

describe('resumption by daemons', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends');
    for (const host of [pair.alice, pair.bob]) {
      host.spawn(...python(MANY, 'serve', '7500', 'client'), { stdio: 'ignore' });
      await host.waitForListener(7500);
    }
  });
  after(() => pair?.close());

  const secure = (daemon: DaemonProcess | undefined): LogLine[] =>
    (daemon?.lines ?? []).filter(({ event }) => event === 'secure');

  /** `count` connections, `atOnce` at a time; whether they were resumed, in the order of both logs' session IDs. */
  async function connections(from: Host, to: Host, count: number, atOnce = 1): Promise<boolean[]> {
    pair.forget();
    const { stdout, stderr } = await from.run(
      ...python(MANY, 'call', to.address4, '7500', 'client', `${count}`, `${atOnce}`),
    );
    assert.deepEqual(JSON.parse(String(stdout)), { done: count, failed: 0, failures: [] }, stderr);
    await eventually(() => {
      for (const daemon of [pair.onAlice, pair.onBob]) assert.equal(secure(daemon).length, count);
    });
    const [alice, bob] = [secure(pair.onAlice), secure(pair.onBob)];
    const ids = (lines: LogLine[]) => lines.map(({ sessionId }) => sessionId).sort();
    assert.deepEqual(ids(alice), ids(bob));
    assert.equal(new Set(ids(alice)).size, count);
    const opener = from === pair.alice ? alice : bob;
    return opener.map(({ resumed }) => resumed === true);
  }

  test('TC-22: the first connection is fresh, the next ones resume it', async () => {
    assert.deepEqual(await connections(pair.alice, pair.bob, 4), [false, true, true, true]);
  });

  test('TC-17, TC-28: the other host may open: it resumes what it knows of the first', async () => {
    assert.deepEqual(await connections(pair.bob, pair.alice, 2), [true, true]);
    assert.deepEqual(await connections(pair.alice, pair.bob, 2), [true, true]);
  });

  test('TC-27: 200 connections, 40 at once: no identifier is used twice, most are resumed', async () => {
    const resumed = await connections(pair.alice, pair.bob, 200, 40);
    assert.ok(resumed.filter(Boolean).length > 100, `${resumed.filter(Boolean).length} resumed`);
    const halves = secure(pair.onAlice)
      .filter((line) => line.resumed)
      .map(({ transcript }) => transcript?.slice(6, 24));
    assert.equal(new Set(halves).size, halves.length);
  });

  for (const side of ['server', 'client'] as const)
    test(`TC-4, TC-19: the daemon on the ${side} is killed and started again: fresh, then resumed`, async () => {
      const host = side === 'server' ? pair.bob : pair.alice;
      await (side === 'server' ? pair.onBob : pair.onAlice)?.stop('SIGKILL');
      const daemon = await pair.daemon(host);
      if (side === 'server') pair.onBob = daemon;
      else pair.onAlice = daemon;
      const resumed = await connections(pair.alice, pair.bob, 4);
      assert.deepEqual(resumed, [false, true, true, true]);
    });
});
