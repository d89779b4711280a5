/** The relay by itself, between plain sockets of this process. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Relay } from '#src/daemon/relay.js';
import { encryption } from '#src/socket/options.js';
import { descriptorOf } from '#src/socket/transport.js';

const MIB = 2 ** 20;

/** Two ends of a connection; the second one has read nothing yet, or, as Node does, a first piece of its own accord. */
async function pair(): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(socket, 'connect')]);
  server.close();
  return [accepted as Socket, socket];
}

test('a far host that sends at once is held up until the application is there', async () => {
  const [farEnd, far] = await pair();
  const [application, local] = await pair();
  farEnd.on('error', () => {});
  const block = Buffer.alloc(MIB, 7);
  let written = 0;
  const flood = (): void => {
    while (written < 256 * MIB) {
      written += block.length;
      if (!farEnd.write(block)) return;
    }
    farEnd.end();
  };
  farEnd.on('drain', flood);
  flood();
  await once(far, 'readable');

  const ended = new Promise<string>((resolve) => {
    const relay = new Relay(
      {
        transport: far,
        fd: descriptorOf(far),
        outcome: { result: 'plain', reason: 'ERR_TCPCRYPT_ENO_ABSENT' },
      },
      encryption({ mode: 'opportunistic' }),
      { onReady: () => {}, onEnd: (_, { how }) => resolve(how) },
    );
    void sleep(1000).then(() => {
      assert.ok(written < 32 * MIB, `${written / MIB} MiB were taken`);
      relay.join(local);
    });
  });
  let read = 0;
  application.on('data', (data) => {
    read += data.length;
  });
  await once(application, 'end');
  assert.equal(read, 256 * MIB);
  application.end();
  assert.equal(await ended, 'end');
});

test('a reset that waits for a peer which does not read looks seldom, and comes in the end', async (context) => {
  const [farEnd, far] = await pair();
  const [application, local] = await pair();
  farEnd.on('error', () => {}).pause();
  application.on('error', () => {});
  const relay = new Relay(
    {
      transport: far,
      fd: descriptorOf(far),
      outcome: { result: 'plain', reason: 'ERR_TCPCRYPT_ENO_ABSENT' },
    },
    encryption({ mode: 'opportunistic' }),
    { onReady: () => {}, onEnd: () => {} },
  );
  relay.join(local);
  application.write(Buffer.alloc(MIB / 2)); // more than fits into the far end, less than makes us wait
  await sleep(500);
  const timers = context.mock.method(globalThis, 'setTimeout').mock;
  application.resetAndDestroy();
  await sleep(1500);
  const { length } = timers.calls;
  timers.restore();
  assert.ok(!far.destroyed);
  assert.ok(length >= 3 && length < 25, `${length} looks`);
  for (const deadline = Date.now() + 5_000; !far.destroyed && Date.now() < deadline; ) await sleep(20);
  assert.ok(far.destroyed);
  farEnd.destroy();
});
