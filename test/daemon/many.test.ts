/** Many connections, short ones and rude ones: none fails, and the daemon keeps nothing of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { eventually, Pair, PLACES, python, skip } from './support/pair.js';
import { HAMMER, MANY } from './support/probe.js';

const COUNT = 2000;
const AT_ONCE = 50;

for (const place of PLACES)
  describe(`many connections, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    before(async () => {
      pair = await Pair.open(place);
    });
    after(() => pair?.close());
    beforeEach(() => pair.forget());

    for (const [port, who] of [
      [7001, 'server'],
      [7002, 'client'],
    ] as const)
      test(`${COUNT} short connections, ${AT_ONCE} at a time, the ${who} closing first: none fails`, async () => {
        pair.bob.spawn(...python(MANY, 'serve', `${port}`, who), { stdio: 'ignore' });
        await pair.bob.waitForListener(port);
        const { stdout, stderr } = await pair.alice.run(
          ...python(MANY, 'call', pair.bob.address4, `${port}`, who, `${COUNT}`, `${AT_ONCE}`),
          { timeoutMs: 60_000 },
        );
        assert.deepEqual(JSON.parse(String(stdout)), { done: COUNT, failed: 0, failures: [] }, stderr);
        await pair.assertRelayed(port, COUNT);
        for (const daemon of [pair.onAlice, pair.onBob]) await assertIdle(daemon);
      });

    for (const [address, port] of [
      ['address6', 7005],
      ['address4', 7006],
    ] as const)
      test(`a server that listens on :: knows its clients, by IPv${address.at(-1)}`, async () => {
        pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'client', '6'), { stdio: 'ignore' });
        await pair.bob.waitForListener(port);
        const { stdout, stderr } = await pair.alice.run(
          ...python(MANY, 'call', pair.bob[address], `${port}`, 'client', '200', '20'),
          { timeoutMs: 60_000 },
        );
        assert.deepEqual(JSON.parse(String(stdout)), { done: 200, failed: 0, failures: [] }, stderr);
        await pair.assertRelayed(port, 200);
        for (const daemon of [pair.onAlice, pair.onBob]) await assertIdle(daemon);
      });

    test('500 connections that are reset at random moments do the daemon no harm', async () => {
      pair.bob.spawn(...python(HAMMER, 'serve', '7003'), { stdio: 'ignore' });
      await pair.bob.waitForListener(7003);
      const { stdout, stderr } = await pair.alice.run(
        ...python(HAMMER, 'call', pair.bob.address4, '7003', '500', `${AT_ONCE}`),
        { timeoutMs: 60_000 },
      );
      assert.equal(String(stdout), 'done\n', stderr);
      for (const daemon of [pair.onAlice, pair.onBob]) await assertIdle(daemon);
      // And it still works.
      const port = 7004;
      pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'server'), { stdio: 'ignore' });
      await pair.bob.waitForListener(port);
      await pair.alice.run(...python(MANY, 'call', pair.bob.address4, `${port}`, 'server', '1', '1'));
      await pair.assertRelayed(port, 1);
    });
  });

/** Nothing is held, relayed or reserved any more; memory is bounded. */
async function assertIdle(daemon: DaemonProcess | undefined): Promise<void> {
  if (daemon === undefined) return;
  await eventually(async () => {
    const { relayed, held, standIns } = await daemon.status();
    assert.deepEqual({ relayed, held, standIns }, { relayed: 0, held: 0, standIns: 0 });
  });
  const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8');
  const mebibytes = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  assert.ok(mebibytes < 250, `${mebibytes} MiB`);
}
