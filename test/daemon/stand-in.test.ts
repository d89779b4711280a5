/** A local server that accepts nobody for a while: whoever connects to it waits, and that must cost next to nothing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { StandIn, type StandIns } from '#src/daemon/stand-in.js';
import * as libc from '#src/kernel/libc.js';
import { fromSockaddr, sockaddr } from '#src/kernel/sockaddr.js';

const tcp = (): number =>
  libc.socket(libc.AF_INET, libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC, 0);

test('a connection waits for a server whose backlog is full, looks seldom, and hears what becomes of it', async (context) => {
  const listener = tcp();
  libc.bind(listener, sockaddr('127.0.0.1', 0));
  libc.listen(listener, 0);
  const port = fromSockaddr(libc.getsockname(listener))?.port ?? 0;
  const filling = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  await once(filling[0] as Socket, 'connect');
  await sleep(50);

  const released = { release: () => {} } as unknown as StandIns;
  const standIn = new StandIn(released, tcp(), '127.0.0.1', 1);
  const looks = context.mock.method(globalThis, 'setTimeout').mock;
  let connected: Socket | number | undefined;
  standIn.connect({ address: '127.0.0.1', port }, (result) => {
    connected = result;
  });
  await sleep(2000);
  const { length } = looks.calls;
  looks.restore();
  assert.equal(connected, undefined, 'the backlog is not full');
  assert.ok(length >= 2 && length < 20, `${length} looks in two seconds`);

  for (const socket of filling) socket.resetAndDestroy();
  libc.close(listener);
  for (const deadline = Date.now() + 10_000; connected === undefined && Date.now() < deadline; )
    await sleep(50);
  assert.equal(connected, -libc.ECONNREFUSED, 'and hears what becomes of it');
});
