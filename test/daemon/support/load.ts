/** Connections by the dozen between the two hosts of a pair, and what the daemons say of them. */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Status } from '#src/daemon/control/protocol.js';
import type { DaemonProcess } from '#src/demo/daemons.js';
import type { Host } from '#src/lab/host.js';
import { STANDING } from './flood.js';
import { eventually, type Pair, python } from './pair.js';
import { MANY } from './probe.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));

/** `tcpcrypt status --json` on that host. */
export async function status(host: Host): Promise<Status> {
  const { stdout, stderr } = await host.run(process.execPath, [main, 'status', '--json']);
  assert.notEqual(String(stdout), '', stderr);
  return JSON.parse(String(stdout)) as Status;
}

export const sheddingLines = (daemon: DaemonProcess | undefined) =>
  daemon?.lines.filter(({ event }) => event === 'shedding') ?? [];

/** On bob, a server that answers and keeps its connections. */
export async function echo(pair: Pair, port: number): Promise<number> {
  pair.bob.spawn(...python(STANDING, 'serve', `${port}`), { stdio: 'ignore' });
  await pair.bob.waitForListener(port);
  return port;
}

/** `count` connections from alice to that server, which stay until `close`. */
export async function standing(pair: Pair, port: number, count: number) {
  const client = pair.alice.spawn(...python(STANDING, 'many', pair.bob.address4, `${port}`, `${count}`), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  assert.ok(client.stdout);
  for await (const line of createInterface({ input: client.stdout })) {
    assert.deepEqual(JSON.parse(line), { answered: count, failures: [] });
    break;
  }
  return { close: () => client.stdin?.end('\n') };
}

/** What was made to this port since `pair.forget` was encrypted at both ends. */
export async function assertEncrypted(pair: Pair, port: number, count: number): Promise<void> {
  const secure = (daemon: DaemonProcess | undefined, end: 'local' | 'remote'): (string | undefined)[] =>
    (daemon?.lines ?? [])
      .filter((line) => line.event === 'secure' && line[end]?.endsWith(`:${port}`))
      .map(({ sessionId }) => sessionId)
      .sort();
  await eventually(() => {
    assert.equal(secure(pair.onAlice, 'remote').length, count);
    assert.deepEqual(secure(pair.onAlice, 'remote'), secure(pair.onBob, 'local'));
  });
}

/** `count` short connections, `atOnce` at a time, to a new server on that port: none fails. */
export async function assertWorks(pair: Pair, port: number, count: number, atOnce: number): Promise<void> {
  pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'client'), { stdio: 'ignore' });
  await pair.bob.waitForListener(port);
  const { stdout, stderr } = await pair.alice.run(
    ...python(MANY, 'call', pair.bob.address4, `${port}`, 'client', `${count}`, `${atOnce}`),
    { timeoutMs: 60_000 },
  );
  assert.deepEqual(JSON.parse(String(stdout)), { done: count, failed: 0, failures: [] }, stderr);
}
