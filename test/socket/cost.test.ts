/**
 * What a connection costs beyond its arithmetic: calls through koffi, most of them system calls, of both ends together.
 * Numbers that do not depend on the machine; whoever makes one of them larger should know it. (What Node itself does,
 * accept(2), epoll(7), read(2) and so on, is not counted: it is the same for node:net.)
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { Server } from '#src/index.js';
// Before anything binds a function: so what is measured is imported later.
import { takeCalls } from '../support/koffi-calls.js';
import type { KernelPart } from './kernel-part.js';

const needsRoot = process.getuid?.() === 0 ? false : 'needs root';
const HOST = '127.0.0.1';
let kernel: KernelPart | undefined;
let library: typeof import('#src/index.js');

before(async () => {
  if (needsRoot) return;
  library = await import('#src/index.js');
  kernel = (await import('./kernel-part.js')).KernelPart.load();
});
after(() => kernel?.unload());

/** One byte there and back, closed in order. */
async function exchange(port: number, resumption: boolean): Promise<boolean> {
  const socket = library.connect({ host: HOST, port, mode: 'required', resumption });
  socket.on('ready', () => socket.end('x'));
  socket.resume();
  await once(socket, 'close');
  return socket.resumed;
}

async function listening(resumption: boolean): Promise<{ server: Server; port: number }> {
  const server = library.createServer({ mode: 'required', resumption, keyLifetime: 60_000 }, (socket) =>
    socket.pipe(socket),
  );
  server.listen(0, HOST);
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

/** The calls that one connection makes, at both ends, after a few others. */
async function ofOneConnection(resumption: boolean): Promise<Record<string, number>> {
  const { server, port } = await listening(resumption);
  for (let i = 0; i < 8; i++) await exchange(port, resumption);
  takeCalls();
  assert.equal(await exchange(port, resumption), resumption);
  const counts = takeCalls();
  await new Promise((resolve) => server.close(resolve));
  return counts;
}

const only = (counts: Record<string, number>, pattern: RegExp): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([name]) => pattern.test(name)));

const SYSTEM_CALLS = /^[a-z]+$/;

test('fresh: eleven system calls besides the six messages, and four values of two keys for each end', {
  skip: needsRoot,
}, async () => {
  const counts = await ofOneConnection(false);
  assert.deepEqual(only(counts, SYSTEM_CALLS), {
    socket: 1,
    setsockopt: 6, // SO_OOBINLINE, TCP_ENO_RAW; for each end TCP_ENO_SESSID and TCP_CRYPT_CONF
    getsockopt: 2, // TCP_ENO_STATE for each end
    send: 6, // Init1, Init2; for each end data and FINp
    shutdown: 2,
  });
  assert.equal(counts.EVP_PKEY_derive, 2);
  assert.equal(counts.EVP_PKEY_keygen, 1, "the client's; the server's is another connection's as well");
  assert.equal(counts.SHA256_Final, 2 * 2, 'Extract');
  assert.equal(counts.SHA256_Transform, 2 * (2 * 2 + 2 * 4));
});

test('resumed: sixteen system calls besides the four messages, no public-key work, six values of four keys', {
  skip: needsRoot,
}, async () => {
  const counts = await ofOneConnection(true);
  assert.deepEqual(only(counts, SYSTEM_CALLS), {
    socket: 1,
    setsockopt: 10, // ... TCP_ENO_EXPECT, TCP_ENO_RESUME_TAKE, and TCP_ENO_RESUMABLE for both ends' caches
    getsockopt: 3, // ... TCP_CRYPT_RESUMPTION
    send: 4,
    shutdown: 2,
  });
  assert.deepEqual(only(counts, /EVP_PKEY|RAND/), {});
  // For each end: session ID, master key, a key for each direction; the next secret and its identifier.
  assert.equal(counts.SHA256_Transform, 2 * (2 * 4 + 2 * 6));
});
