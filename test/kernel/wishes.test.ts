/** The options of programs that leave encryption to the daemon: include/tcp_eno.h. What the daemon makes of them: test/daemon. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Server, Socket } from 'node:net';
import { test } from 'node:test';
import { openEnoSocket, TCP_CRYPT, TCP_ENO } from '#src/kernel/eno-socket.js';
import {
  AF_INET,
  bind,
  close,
  EINVAL,
  EISCONN,
  IPPROTO_TCP,
  listen as listenOn,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socket,
  tryGetsockopt,
  trySetsockopt,
} from '#src/kernel/libc.js';
import { sockaddr } from '#src/kernel/sockaddr.js';
import { Wishes } from '#src/kernel/wishes.js';
import { dial, fdOf, hex, lab, listen, shell } from './lab.js';

const place = lab();
const EACCES = 13;
const ENODATA = 61;

const get = (fd: number, name: number): Buffer | number => tryGetsockopt(fd, IPPROTO_TCP, name, 96);
const set = (fd: number, name: number, value: Uint8Array | number): number =>
  trySetsockopt(fd, IPPROTO_TCP, name, value);
const int = (fd: number, name: number): number => {
  const value = get(fd, name);
  return typeof value === 'number' ? value : value.readInt32LE();
};
const tcp = (): number => socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

test('defaults, and what was written is read back', () => {
  const fd = tcp();
  for (const [name, initial, ...values] of [
    [TCP_ENO.ENABLED, -1, 0, 1, -1],
    [TCP_ENO.SELF_GOPT, 0, 2, 3, 31],
    [TCP_ENO.AA_MANDATORY, 0, 1, 0],
    [TCP_ENO.TEP_MANDATORY, 0, 1, 0],
  ] as const) {
    assert.equal(int(fd, name), initial, `${name}`);
    for (const value of values) {
      assert.equal(set(fd, name, value), 0, `${name}`);
      assert.equal(int(fd, name), value, `${name}`);
    }
  }
  for (const [name, value] of [
    [TCP_ENO.TEPS, '2123'],
    [TCP_CRYPT.ACONF, '00010010'],
    [TCP_CRYPT.BCONF, '0002'],
  ] as const) {
    assert.equal(get(fd, name), -ENODATA);
    assert.equal(set(fd, name, hex(value)), 0);
    assert.deepEqual(get(fd, name), hex(value));
  }
  assert.equal(set(fd, TCP_CRYPT.CACHE_FLUSH, 1), 0);
  close(fd);
});

test('API-3: unknown TEPs, unknown algorithms and numbers out of range are refused, and change nothing', () => {
  const fd = tcp();
  assert.equal(set(fd, TCP_ENO.TEPS, hex('23')), 0);
  for (const bad of ['1f', '20', '25', '2323', 'a323', '232125', '21222324a1222324', '80'])
    assert.equal(set(fd, TCP_ENO.TEPS, hex(bad)), -EINVAL, bad);
  assert.deepEqual(get(fd, TCP_ENO.TEPS), hex('23'));
  for (const name of [TCP_CRYPT.ACONF, TCP_CRYPT.BCONF])
    for (const bad of ['', '00', '0000', '0003', '000100', '0100', '00010001000100010001'])
      assert.equal(set(fd, name, hex(bad)), -EINVAL, bad);
  for (const [name, ...bad] of [
    [TCP_ENO.ENABLED, -2, 2],
    [TCP_ENO.SELF_GOPT, -1, 32],
    [TCP_ENO.TEP_MANDATORY, -1, 2],
    [TCP_CRYPT.CACHE_FLUSH, 0, 2],
  ] as const)
    for (const value of bad) assert.equal(set(fd, name, value), -EINVAL, `${name} ${value}`);
  assert.equal(int(fd, TCP_ENO.ENABLED), -1);
  assert.equal(set(fd, TCP_CRYPT.CONF, 1), -EACCES);
  close(fd);
});

test('API-8: where TCP_ENO_RAW is set, the options of other programs are off', () => {
  const fd = openEnoSocket(4, { contents: hex('23') });
  for (const name of [TCP_ENO.ENABLED, TCP_ENO.SELF_GOPT, TCP_ENO.TEP_MANDATORY, TCP_CRYPT.CACHE_FLUSH])
    assert.equal(set(fd, name, 1), -EINVAL);
  for (const name of [TCP_ENO.ENABLED, TCP_ENO.TEPS, TCP_ENO.SELF_GOPT, TCP_CRYPT.ACONF])
    assert.equal(get(fd, name), -EINVAL);
  assert.equal(set(fd, TCP_ENO.RAW, hex('')), 0);
  assert.equal(set(fd, TCP_ENO.SELF_GOPT, 2), 0);
  close(fd);
});

test('API-2, API-4: not after the SYN, nor after listen; b reads as 1 on passive sockets', async () => {
  const { server, port, accept } = await listen();
  const client = await dial(port);
  const accepted = await accept();
  for (const fd of [fdOf(server), fdOf(client), fdOf(accepted)])
    for (const name of [TCP_ENO.ENABLED, TCP_ENO.SELF_GOPT, TCP_ENO.AA_MANDATORY])
      assert.equal(set(fd, name, 1), -EISCONN);
  assert.equal(set(fdOf(server), TCP_CRYPT.CACHE_FLUSH, 1), -EISCONN);
  assert.equal(set(fdOf(client), TCP_CRYPT.CACHE_FLUSH, 1), -EINVAL); // it is plain: there is nothing to flush
  assert.equal(set(fdOf(client), TCP_ENO.TEPS, hex('23')), -EISCONN);
  client.destroy();
  accepted.destroy();
  server.close();

  const fd = tcp();
  assert.equal(set(fd, TCP_ENO.SELF_GOPT, 2), 0);
  bind(fd, sockaddr('127.0.0.1', 0));
  listenOn(fd, 1);
  assert.equal(int(fd, TCP_ENO.SELF_GOPT), 3);
  close(fd);
});

test('listeners: the daemon finds what they wish until they are closed', async () => {
  const wishes = new Wishes(place.pins);
  const fd = tcp();
  assert.equal(set(fd, TCP_ENO.SELF_GOPT, 2), 0);
  assert.equal(set(fd, TCP_CRYPT.BCONF, hex('00010010')), 0);
  assert.equal(set(fd, TCP_ENO.TEPS, hex('2123')), 0);
  bind(fd, sockaddr('0.0.0.0', 34_567));
  listenOn(fd, 1);
  const wish = wishes.ofListener('127.0.0.1', 34_567);
  assert.deepEqual(wish, {
    enabled: undefined,
    aware: true,
    roleB: false,
    mandatoryAware: false,
    mandatory: false,
    noResume: false,
    teps: [0x23, 0x21],
    ciphersA: undefined,
    ciphersB: [0x10, 0x01],
  });
  assert.equal(wishes.ofListener('127.0.0.1', 34_568), undefined);
  close(fd);
  assert.equal(wishes.ofListener('127.0.0.1', 34_567), undefined);
  wishes.close();
});

test('connections: what an earlier connection of the same addresses wished is not there any more', async () => {
  const wishes = new Wishes(place.pins);
  const { server, port, accept } = await listen();
  const local = { address: '127.0.0.1', port: 34_569 };
  const tuple = { local, remote: { address: '127.0.0.1', port } };
  const open = (fd: number): Socket => {
    bind(fd, sockaddr(local.address, local.port));
    return new Socket({ fd }).connect({ host: '127.0.0.1', port });
  };
  const wishing = tcp();
  assert.equal(set(wishing, TCP_ENO.ENABLED, 0), 0);
  // Nobody listens: the wish stays, as it would after any attempt that failed.
  bind(wishing, sockaddr(local.address, local.port));
  const refused = new Socket({ fd: wishing }).connect({ host: '127.0.0.1', port: 1 });
  await once(refused, 'error');
  const dead = { local, remote: { address: '127.0.0.1', port: 1 } };
  assert.equal(wishes.ofConnection(dead)?.enabled, false);
  const other = tcp();
  bind(other, sockaddr(local.address, local.port));
  await once(new Socket({ fd: other }).connect({ host: '127.0.0.1', port: 1 }), 'error');
  assert.equal(wishes.ofConnection(dead), undefined);

  const client = open(tcp());
  await once(client, 'connect');
  assert.equal(wishes.ofConnection(tuple), undefined);
  (await accept()).destroy();
  client.destroy();
  server.close();
  wishes.close();
});

test('API-6: without a daemon, connect(2) fails at once; also where data are to travel in the SYN', async () => {
  const { server, port } = await listen();
  const fd = tcp();
  assert.equal(set(fd, TCP_ENO.TEP_MANDATORY, 1), 0);
  const client = new Socket({ fd }).connect({ host: '127.0.0.1', port });
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'EHOSTUNREACH');

  const wishes = new Wishes(place.pins);
  wishes.setDefaults([0x23], [1]); // as a daemon does
  process.env.FAST_OPEN = `
import socket
for mandatory in 0, 1:
    client = socket.socket()
    client.setsockopt(6, 1033, mandatory)
    try: print(client.sendto(b'secret', 0x20000000, ('127.0.0.1', ${port})))
    except OSError as error: print(error.errno)`;
  assert.equal(shell('python3 -c "$FAST_OPEN"'), '6\n113\n');
  wishes.clearDefaults();
  wishes.close();
  server.close();
});

test('API-6: a connection that the daemon does not carry, and that must not be plain: it ends, and not a byte passes', async () => {
  const wishes = new Wishes(place.pins);
  wishes.setDefaults([0x23], [1]);
  const { server, port } = await listen();
  const fd = tcp();
  assert.equal(set(fd, TCP_ENO.TEP_MANDATORY, 1), 0);
  const client = new Socket({ fd }).connect({ host: '127.0.0.1', port });
  const heard: Buffer[] = [];
  server.on('connection', (socket) => socket.on('data', (data) => heard.push(data)).on('error', () => {}));
  client.on('connect', () => client.write('secret'));
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  assert.match(error.code ?? '', /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/);
  assert.deepEqual(heard, []);
  server.close();
  wishes.clearDefaults();
  wishes.close();

  // A listener likewise.
  const listener = tcp();
  assert.equal(set(listener, TCP_ENO.TEP_MANDATORY, 1), 0);
  bind(listener, sockaddr('127.0.0.1', 0));
  const mandatory = new Server().listen({ fd: listener });
  const said: Buffer[] = [];
  const ended = new Promise<NodeJS.ErrnoException>((resolve) => {
    mandatory.on('connection', (socket) => {
      socket.on('data', (data) => said.push(data)).on('error', resolve);
      socket.write('hello');
    });
  });
  await once(mandatory, 'listening');
  const address = mandatory.address();
  assert.ok(typeof address === 'object' && address !== null);
  const visitor = new Socket().connect({ host: '127.0.0.1', port: address.port });
  visitor.on('data', (data) => said.push(data)).on('error', () => {});
  visitor.on('connect', () => visitor.write('secret'));
  assert.match((await ended).code ?? '', /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/);
  visitor.destroy();
  assert.deepEqual(said, []);
  mandatory.close();
});

test('API-6: set on a connection that is plain already, it ends that', async () => {
  const { server, port, accept } = await listen();
  const client = await dial(port);
  const accepted = await accept();
  accepted.on('error', () => {});
  accepted.write('before');
  await once(client, 'data');
  assert.equal(set(fdOf(client), TCP_ENO.TEP_MANDATORY, 1), 0);
  const heard: Buffer[] = [];
  accepted.on('data', (data) => heard.push(data));
  client.write('after');
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  assert.match(error.code ?? '', /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/);
  assert.deepEqual(heard, []);
  accepted.destroy();
  server.close();
});
