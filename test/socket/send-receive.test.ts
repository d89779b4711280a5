/**
 * The short ways past the streams of a net.Socket, and their readable twins: the same bytes in the same order, whatever
 * the kernel takes at once; nothing is used after it was given back.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  bytesNotSent,
  getsockopt,
  IPPROTO_TCP,
  SO_RCVBUF,
  SOL_SOCKET,
  setsockopt,
} from '#src/kernel/libc.js';
import { receive } from '#src/socket/receive.js';
import { send, sendByStream, sendLast, sendLent } from '#src/socket/send.js';
import { descriptorOf } from '#src/socket/transport.js';
import { closing, dispose, ENCRYPTED, OURS, pair } from './implementations.js';
import { KernelPart, needsRoot } from './kernel-part.js';

const SO_SNDBUF = 7;
const TCP_NODELAY = 1;

async function listener(): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return server;
}

async function tcp(by?: net.Server) {
  const server = by ?? (await listener());
  const accepted = once(server, 'connection');
  const client = net.connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  const [[peer]] = await Promise.all([accepted, once(client, 'connect')]);
  const close = async () => {
    client.destroy();
    peer.destroy();
    server.close();
    await once(server, 'close');
  };
  return { client, peer, close };
}

/** How many segments have been sent: tcpi_segs_out of `struct tcp_info` (linux/tcp.h). */
const TCP_INFO = 11;
const segmentsSent = (socket: net.Socket): number =>
  getsockopt(descriptorOf(socket), IPPROTO_TCP, TCP_INFO, 256).readUInt32LE(136);

test('the last bytes travel with FIN', async () => {
  const counts: number[] = [];
  for (const how of [send, sendLast]) {
    const { client, peer, close } = await tcp();
    client.setNoDelay(true);
    const received: Buffer[] = [];
    peer.on('data', (data: Buffer) => received.push(data));
    const ended = once(peer, 'end');
    const before = segmentsSent(client);
    let written = false;
    how(client, [Buffer.from('one, '), Buffer.from('two')], undefined, () => {
      written = true;
    });
    client.end();
    await ended;
    assert.ok(written);
    assert.equal(String(Buffer.concat(received)), 'one, two');
    counts.push(segmentsSent(client) - before);
    await close();
  }
  assert.deepEqual(counts, [2, 1]);
});

/** Little room in the kernel, so that it seldom takes all of a write. */
function narrow(from: net.Socket, into: net.Socket): void {
  setsockopt(descriptorOf(from), SOL_SOCKET, SO_SNDBUF, 40_000);
  setsockopt(descriptorOf(into), SOL_SOCKET, SO_RCVBUF, 100_000);
  setsockopt(descriptorOf(from), IPPROTO_TCP, TCP_NODELAY, 1);
}

/** Reads everything, with pauses. */
async function digest(socket: net.Socket, pauses: boolean): Promise<string> {
  const hash = createHash('sha256');
  let reads = 0;
  const take = (chunk: Uint8Array): void => {
    hash.update(chunk);
    reads += 1;
    if (!pauses || reads % 16 !== 0) return;
    socket.pause();
    setTimeout(() => socket.resume(), 1);
  };
  if (receive(socket, take)) socket.resume();
  else assert.fail('this Node has no onread');
  await once(socket, 'end');
  return hash.digest('hex');
}

/** Of bytes that are gone on return, one piece at a time. */
const lent: typeof send = (transport, pieces, _, written) => {
  let flowing = true;
  for (const piece of pieces) {
    flowing = sendLent(transport, piece);
    piece.fill(0);
  }
  written?.();
  return flowing;
};

for (const [name, way] of [
  ['send', send],
  ['its twin', sendByStream],
  ['sendLent', lent],
] as const) {
  for (const pauses of [false, true]) {
    test(`${name}: 150 random writes through a narrow pipe, ${pauses ? 'slow' : 'fast'} reader`, async () => {
      const { client, peer, close } = await tcp();
      narrow(client, peer);
      const arrived = digest(peer, pauses);
      const hash = createHash('sha256');
      const order: number[] = [];
      let out = 0;
      for (let i = 0; i < 150; i++) {
        const pieces = Array.from({ length: randomInt(1, 5) }, () => randomBytes(randomInt(1, 20_000)));
        for (const piece of pieces) hash.update(piece);
        const flowing = way(
          client,
          pieces,
          (piece) => {
            // As the next frame does.
            piece.fill(0);
            out += 1;
          },
          (error) => {
            assert.equal(error ?? undefined, undefined);
            order.push(i);
          },
        );
        if (!flowing) await once(client, 'drain');
      }
      client.end();
      assert.equal(await arrived, hash.digest('hex'));
      // Each once. Node puts the call-backs of its stream off, so one of a direct write may come before an earlier one.
      assert.deepEqual(
        order.sort((a, b) => a - b),
        Array.from({ length: 150 }, (_, i) => i),
      );
      assert.ok(name !== 'send' || out > 0, 'some memory was given back');
      await close();
    });
  }
}

test('small pieces travel together, without waiting for the stream', async () => {
  const { client, peer, close } = await tcp();
  client.setNoDelay(true);
  const chunks: number[] = [];
  assert.ok(receive(peer, ({ length }) => chunks.push(length)));
  peer.resume();
  assert.equal(send(client, [Buffer.from('one'), Buffer.from('two'), Buffer.from('three')]), true);
  assert.equal(client.bytesWritten, 0, 'not by the stream');
  while (chunks.length === 0) await sleep(1);
  assert.deepEqual(chunks, [11]);
  await close();
});

test('an empty piece at the end does not hold back those before it', async () => {
  for (const how of [send, sendByStream]) {
    const { client, peer, close } = await tcp();
    how(client, [Buffer.from('one, '), Buffer.from('two'), Buffer.alloc(0), Buffer.alloc(0)]);
    assert.equal(bytesNotSent(descriptorOf(client)), 0);
    assert.equal(String((await once(peer, 'data'))[0]), 'one, two');
    await close();
  }
});

test('a closed connection: an error, and nothing in the descriptor of the next one', async () => {
  const first = await tcp();
  const fd = descriptorOf(first.client);
  const next = await listener(); // now, as it has a descriptor of its own
  first.client.on('error', () => {}).destroy();
  await once(first.client, 'close');
  const others = [await tcp(next)];
  const sockets = others.flatMap(({ client, peer }) => [client, peer]);
  assert.ok(
    sockets.some((socket) => descriptorOf(socket) === fd),
    'the number is used again',
  );
  for (const socket of sockets) socket.on('data', () => assert.fail('bytes of another'));
  const error = await new Promise((resolve) => send(first.client, [randomBytes(100)], undefined, resolve));
  assert.ok(error instanceof Error);
  await sleep(50);
  await Promise.all([first, ...others].map(({ close }) => close()));
});

test('a connection that the peer has reset: the error and the close that node:net gives', async () => {
  const { client, peer, close } = await tcp();
  peer.resetAndDestroy();
  const errors: string[] = [];
  client.on('error', (error: NodeJS.ErrnoException) => errors.push(`${error.syscall} ${error.code}`));
  const closed = closing(client);
  // Nobody reads here, so only writing finds out.
  let failed: NodeJS.ErrnoException | undefined;
  const written = (error?: Error | null) => {
    failed ??= error ?? undefined;
  };
  while (failed === undefined && !client.destroyed) {
    send(client, [Buffer.from('x')], undefined, written);
    await sleep(1);
  }
  await closed;
  assert.equal(errors.length, 1);
  assert.match(errors[0] ?? '', /^(write|read) (ECONNRESET|EPIPE)$/);
  await close();
});

test('idleness is counted from the last byte sent', async () => {
  const { client, peer, close } = await tcp();
  peer.resume();
  let idle = false;
  client.setTimeout(150, () => {
    idle = true;
  });
  for (let i = 0; i < 10; i++) {
    send(client, [Buffer.from('x')]);
    await sleep(40);
    if (i < 9) assert.equal(idle, false);
  }
  await once(client, 'timeout');
  await close();
});

test('memory that was lent for reading is nobody else’s: two connections at once', async () => {
  const [one, two] = [await tcp(), await tcp()];
  const [a, b] = [digest(one.peer, true), digest(two.peer, false)];
  const hashes = [createHash('sha256'), createHash('sha256')];
  for (let i = 0; i < 50; i++) {
    for (const [k, { client }] of [one, two].entries()) {
      const bytes = randomBytes(randomInt(1, 200_000));
      hashes[k]?.update(bytes);
      if (!send(client, [bytes])) await once(client, 'drain');
    }
  }
  one.client.end();
  two.client.end();
  assert.deepEqual(
    await Promise.all([a, b]),
    hashes.map((hash) => hash.digest('hex')),
  );
  await Promise.all([one.close(), two.close()]);
});

describe('sockets', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  for (const implementation of OURS) {
    test(`${implementation.name}: random writes both ways through a narrow pipe`, {
      timeout: 60_000,
    }, async () => {
      const half = { allowHalfOpen: true };
      const ends = await pair(implementation, { client: half as object, server: half });
      const { client, peer } = ends;
      for (const { from, into } of directions(client, peer)) narrow(from, into);
      const expected = await Promise.all(
        [
          [client, peer],
          [peer, client],
        ].map(async ([from, into]) => {
          assert.ok(from !== undefined && into !== undefined);
          const [sent, received] = [createHash('sha256'), createHash('sha256')];
          const kept: Buffer[] = [];
          into.on('data', (chunk: Buffer) => {
            kept.push(chunk); // an application may: hashed only at the end
            if (kept.length % 8 !== 0) return;
            into.pause();
            setTimeout(() => into.resume(), 1);
          });
          const ended = once(into, 'end');
          for (let i = 0; i < 150; i++) {
            const bytes = randomBytes(randomInt(1, i % 10 === 0 ? 400_000 : 3000));
            sent.update(bytes);
            if (!from.write(bytes)) await once(from, 'drain');
          }
          from.end();
          await ended;
          for (const chunk of kept) received.update(chunk);
          return [sent.digest('hex'), received.digest('hex')];
        }),
      );
      for (const [sent, received] of expected) assert.equal(received, sent);
      await dispose(ends);
    });
  }

  test('one write of 64 MiB does not keep others waiting', { timeout: 60_000 }, async () => {
    const ends = await pair(ENCRYPTED);
    const { client, peer } = ends;
    let length = 0;
    peer.on('data', (chunk) => {
      length += chunk.length;
    });
    let turns = 0;
    const beat = setInterval(() => turns++, 1);
    await new Promise((resolve) => client.write(Buffer.alloc(64 * 1024 * 1024), resolve));
    clearInterval(beat);
    assert.ok(turns >= 3, `${turns}`);
    client.end();
    await once(peer, 'end');
    assert.equal(length, 64 * 1024 * 1024);
    await dispose(ends);
  });
});

/** The net.Sockets below both ends, and who reads whom. */
function directions(client: net.Socket, peer: net.Socket): { from: net.Socket; into: net.Socket }[] {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  const below = ({ localPort, remotePort }: net.Socket): net.Socket => {
    const found = handles.find(
      (handle): handle is net.Socket =>
        handle instanceof net.Socket && handle.localPort === localPort && handle.remotePort === remotePort,
    );
    assert.ok(found);
    return found;
  };
  const [a, b] = [below(client), below(peer)];
  return [
    { from: a, into: b },
    { from: b, into: a },
  ];
}
