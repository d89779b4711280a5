/** Connections by their descriptors: with and without Node's streams they do the same. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket as TcpSocket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as libc from '#src/kernel/libc.js';
import { sockaddr } from '#src/kernel/sockaddr.js';
import { adopt } from '#src/socket/adopt.js';
import { BareSocket, keepStreams, own } from '#src/socket/bare-socket.js';
import { receive } from '#src/socket/receive.js';
import { descriptorOf } from '#src/socket/transport.js';

/** A descriptor that is connected to `port`. */
async function connected(port: number): Promise<number> {
  const fd = libc.socket(libc.AF_INET, libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC, 0);
  const address = sockaddr('127.0.0.1', port);
  libc.tryConnect(fd, address);
  while (libc.tryConnect(fd, address) === -libc.EALREADY) await sleep(1);
  return fd;
}

async function talk(): Promise<{ readonly said: string[]; readonly transport: TcpSocket }> {
  const said: string[] = [];
  const server = createServer({ allowHalfOpen: true }, (peer) => {
    peer.on('data', (data) => said.push(`peer has ${data}`));
    peer.on('end', () => peer.end('and goodbye'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const fd = await connected((server.address() as AddressInfo).port);
  const transport = adopt(fd);
  assert.equal(descriptorOf(transport), fd);
  const closed = new Promise<void>((resolve) => {
    const handleData = (lent: Uint8Array): void => void said.push(`we have ${Buffer.from(lent)}`);
    own(transport, {
      handleData,
      handleEnd: () => said.push('end'),
      handleDrain: () => {},
      handleError: (error) => said.push(error.message),
      handleClosed: resolve,
    });
    if (!(transport instanceof BareSocket)) receive(transport, handleData);
  });
  transport.resume();
  transport.write(Buffer.from('hello'));
  transport.end();
  await closed;
  server.close();
  return { said, transport };
}

const EXPECTED = ['peer has hello', 'we have and goodbye', 'end'];

test('the first, from which we learn of handles; those after it; and with streams', {
  skip: process.platform !== 'linux',
}, async () => {
  for (let i = 0; i < 3; i++) {
    const { said, transport } = await talk();
    assert.deepEqual(said, EXPECTED);
    assert.ok(transport instanceof BareSocket);
  }
  keepStreams();
  const { said, transport } = await talk();
  assert.deepEqual(said, EXPECTED);
  assert.ok(!(transport instanceof BareSocket));
});
