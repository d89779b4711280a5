/**
 * What a resumed connection costs the daemons beyond its arithmetic: calls through koffi, most of them system calls. Numbers
 * that do not depend on the machine; whoever makes one of them larger should know it. (What Node itself does, accept(2),
 * epoll(7), read(2) and so on, is not counted.)
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

const COUNTED = new URL('./support/counted-calls.js', import.meta.url);
const CONNECTIONS = 40;

/** At most, for each connection. */
const CLIENT = {
  // Urgent data, ENO and what is expected, mark, linger, no delay, keep-alive, hop limit, port: the far socket; the session
  // cache's two words to the kernel; session ID and AEAD; each side may linger in the end.
  setsockopt: 15,
  // What became of ENO; whether resumption is permitted; whether each side's end is one.
  getsockopt: 4,
  // Held SYN: verdict, sock_diag, connection tracking; then two frames, and one answer to the application.
  send: 6,
  recv: 1,
  // Who has arrived, and where it wanted to go.
  getsockname: 1,
  getpeername: 1,
  socket: 1,
  close: 0,
  shutdown: 2,
  bpf_map_lookup_elem: 1,
  bpf_map_update_elem: 2,
  bpf_map_lookup_and_delete_elem: 1,
  poll: 0,
};

const SERVER = {
  // Any address, urgent data, mark, port again, linger, no delay: the socket to the local server; the session cache's word to
  // the kernel; session ID and AEAD; each side may linger in the end.
  setsockopt: 11,
  // What became of ENO; whether each side's end is one.
  getsockopt: 3,
  // Two frames, and what the application is sent.
  send: 3,
  // A second one tells what became of the first.
  connect: 2,
  bind: 1,
  getsockname: 1,
  getpeername: 1,
  socket: 1,
  close: 0,
  shutdown: 2,
  // What the server wishes that listens there, on its own address or on any.
  bpf_map_lookup_elem: 3,
  // The client's port; what the server may know of the connection.
  bpf_map_update_elem: 2,
  bpf_map_delete_elem: 1,
  bpf_map_lookup_and_delete_elem: 1,
};

/** Daemons that count, and a server on bob. */
async function openCounting(flags: readonly string[]): Promise<Pair> {
  const { NODE_OPTIONS } = process.env;
  process.env.NODE_OPTIONS = `${NODE_OPTIONS ?? ''} --import=${COUNTED}`;
  try {
    const pair = await Pair.open('both ends', flags);
    pair.bob.spawn(...python(MANY, 'serve', '7500', 'client'), { stdio: 'ignore' });
    await pair.bob.waitForListener(7500);
    return pair;
  } finally {
    if (NODE_OPTIONS === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = NODE_OPTIONS;
  }
}

async function calls(daemon: DaemonProcess | undefined): Promise<Record<string, number>> {
  assert.ok(daemon);
  const from = daemon.lines.length;
  process.kill(daemon.pid, 'SIGWINCH');
  const line = await daemon.line((each) => each.event === 'calls' && daemon.lines.indexOf(each) >= from);
  return (line as { calls?: Record<string, number> }).calls ?? {};
}

const connect = (pair: Pair, count: number) =>
  pair.alice.run(...python(MANY, 'call', pair.bob.address4, '7500', 'client', `${count}`, '1'));

describe('cost of a connection', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await openCounting([]);
  });
  after(() => pair?.close());

  const ends = [
    { name: 'client', most: CLIENT, daemon: () => pair.onAlice },
    { name: 'server', most: SERVER, daemon: () => pair.onBob },
  ];
  for (const { name, most, daemon } of ends) {
    test(`calls of the daemon at the ${name}, one connection after the other`, async () => {
      await connect(pair, 3);
      await calls(daemon());
      await connect(pair, CONNECTIONS);
      const counted = await calls(daemon());
      for (const [call, limit] of Object.entries(most)) {
        // A timer, or the end of an earlier connection, may be among them.
        const each = Math.round((counted[call] ?? 0) / CONNECTIONS);
        assert.ok(each <= limit, `${call}: ${each} for each connection, ${limit} expected`);
      }
    });
  }
});

describe('public-key work of fresh connections', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await openCounting(['--no-resume']);
  });
  after(() => pair?.close());

  test('TC-8: one agreement at each end, a key pair for each at the client, one of a second at the server', async () => {
    await connect(pair, 3);
    for (const daemon of [pair.onAlice, pair.onBob]) await calls(daemon);
    const started = performance.now();
    await connect(pair, CONNECTIONS);
    const seconds = (performance.now() - started) / 1000;
    const [client, server] = [await calls(pair.onAlice), await calls(pair.onBob)];
    assert.equal(client.EVP_PKEY_derive, CONNECTIONS);
    assert.equal(client.EVP_PKEY_keygen, CONNECTIONS);
    assert.equal(server.EVP_PKEY_derive, CONNECTIONS);
    const pairs = server.EVP_PKEY_keygen ?? 0;
    assert.ok(pairs <= seconds + 1, `${pairs} key pairs in ${seconds} s`);
  });
});
