/** A program must not be able to tell that its connection is encrypted: same bytes, same ends, same errors. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { FIDELITY, FIDELITY_CASES, STALL } from './support/fidelity.js';
import { eventually, Pair, PLACES, python, skip } from './support/pair.js';

const MIB = 1024 * 1024;

/** Both ends' view of one case. */
async function see(pair: Pair, port: number, name: string): Promise<{ client: string; server: string }> {
  const server = pair.bob.run(...python(FIDELITY, 'serve', `${port}`, name), { timeoutMs: 30_000 });
  await pair.bob.waitForListener(port);
  const client = await pair.alice.run(...python(FIDELITY, 'call', pair.bob.address4, `${port}`, name), {
    timeoutMs: 30_000,
  });
  const { stdout, stderr } = await server;
  assert.equal(client.stderr + stderr, '');
  return { client: String(client.stdout), server: String(stdout) };
}

const native = new Map<string, { client: string; server: string }>();
before(async () => {
  if (skip) return;
  const pair = await Pair.open('neither end');
  try {
    let port = 7100;
    for (const name of FIDELITY_CASES) native.set(name, await see(pair, port++, name));
  } finally {
    await pair.close();
  }
});

for (const place of PLACES)
  describe(`what programs see, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    before(async () => {
      pair = await Pair.open(place);
      // Two ICMP messages in a second would be too many for a router's default.
      pair.lab.router.enter('sh', ['-c', 'echo 0 > /proc/sys/net/ipv4/icmp_ratelimit']);
    });
    after(() => pair?.close());
    beforeEach(() => pair.forget());

    let port = 7100;
    for (const name of FIDELITY_CASES) {
      const own = port++;
      test(`${name.replaceAll('-', ' ')}: as without the daemon`, async () => {
        assert.deepEqual(await see(pair, own, name), native.get(name));
        await pair.assertRelayed(own);
      });
    }

    const call = (address: string, to: number, timeoutMs = 30_000) =>
      pair.alice
        .run(...python(FIDELITY, 'call', address, `${to}`, 'name'), { timeoutMs })
        .then(({ stdout }) => String(stdout));

    test('a port on which nobody listens refuses', async () => {
      assert.equal(await call(pair.bob.address4, 9), 'ECONNREFUSED');
    });

    test('a host that the router calls unreachable is unreachable', async () => {
      pair.lab.router.enter('ip', ['route', 'add', 'unreachable', '192.0.2.1/32']);
      assert.equal(await call('192.0.2.1', 80), 'EHOSTUNREACH');
      pair.lab.router.enter('ip', ['route', 'add', 'prohibit', '192.0.2.2/32']);
      assert.equal(await call('192.0.2.2', 80), 'EHOSTUNREACH');
    });

    test('without a route it is the network that is unreachable', async () => {
      pair.alice.enter('ip', ['route', 'add', 'unreachable', '192.0.2.3/32']);
      assert.equal(await call('192.0.2.3', 80), 'EHOSTUNREACH');
    });

    test('a host that does not answer: the client gives up when it wants to', async () => {
      pair.lab.router.enter('ip', ['route', 'add', 'blackhole', '192.0.2.4/32']);
      const { code } = await pair.alice.run('curl', ['-sS', '--connect-timeout', '2', 'http://192.0.2.4/']);
      assert.equal(code, 28);
    });

    test('the name of the client is its own', async () => {
      const server = pair.bob.run(...python(FIDELITY, 'serve', '7150', 'half-close-at-once'));
      await pair.bob.waitForListener(7150);
      assert.equal(await call(pair.bob.address4, 7150), pair.alice.address4);
      await server;
    });

    test('200 MB to a reader that stalls: nothing is lost, and the daemons do not hoard', async () => {
      const size = 200 * MIB;
      const server = pair.bob.run(...python(STALL, 'serve', '7160', '2'), { timeoutMs: 60_000 });
      await pair.bob.waitForListener(7160);
      const before = [pair.onAlice, pair.onBob].map(rss);
      const client = pair.alice.run(...python(STALL, 'call', pair.bob.address4, '7160', `${size}`), {
        timeoutMs: 60_000,
      });
      await sleep(1500);
      const stalled = [pair.onAlice, pair.onBob].map(rss);
      const [sent, received] = [await client, await server];
      assert.equal(String(received.stdout), String(sent.stdout));
      assert.ok(String(sent.stdout).startsWith(`${size} `));
      stalled.forEach((mebibytes, i) => {
        assert.ok(mebibytes - (before[i] ?? 0) < 60, `${before[i]} MiB, then ${mebibytes}`);
      });
      await pair.assertRelayed(7160);
    });

    test('nothing of all this stays in the daemons', async () => {
      for (const daemon of [pair.onAlice, pair.onBob])
        await eventually(async () => {
          if (daemon === undefined) return;
          const { relayed, standIns } = await daemon.status();
          assert.deepEqual([relayed, standIns], [0, 0]);
        });
    });
  });

/** Resident memory in MiB. */
function rss(daemon: DaemonProcess | undefined): number {
  if (daemon === undefined) return 0;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
}
