/**
 * New keys in the middle of connections (RFC 8548 §3.8, §3.9), on this machine's kernel.
 *
 * One gibibyte each way with new keys every 16 MiB (about 10 s):
 *
 *     TCPCRYPT_TEST_BYTES=1073741824 npm test -- socket/rekey
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createServer, type ServerOptions, type Socket } from '#src/index.js';
import { getsockopt, IPPROTO_TCP } from '#src/kernel/libc.js';
import { negotiatedFromTranscript, Session } from '#src/session/index.js';
import { BareSocket } from '#src/socket/bare-socket.js';
import { descriptorOf } from '#src/socket/transport.js';
import { KernelPart, needsRoot } from './kernel-part.js';

const HOST = '127.0.0.1';
const MIB = 2 ** 20;
const BYTES = Number(process.env.TCPCRYPT_TEST_BYTES ?? 64 * MIB);
const REKEY_BYTES = 16 * MIB;
const BLOCK = randomBytes(MIB);

/** `size` bytes, every block different. */
function* blocks(size: number): Generator<Buffer> {
  for (let sent = 0, i = 0; sent < size; sent += BLOCK.length, i++) {
    const block = Buffer.from(BLOCK.subarray(0, Math.min(BLOCK.length, size - sent)));
    block.writeUInt32BE(i);
    yield block;
  }
}

function digest(size: number): string {
  const hash = createHash('sha256');
  for (const block of blocks(size)) hash.update(block);
  return hash.digest('hex');
}

async function send(socket: Socket, size: number): Promise<void> {
  Readable.from(blocks(size)).pipe(socket);
  await once(socket, 'finish');
}

async function receive(socket: Socket): Promise<{ hash: string; size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    size += chunk.length;
  });
  await once(socket, 'end');
  return { hash: hash.digest('hex'), size };
}

/** Counts frames with rekey=1 in a stream that passes by. */
class FrameCounter {
  rekeys = 0;
  #rest = Buffer.alloc(0);
  /** The length of what comes before the first frame. */
  #skip: number | undefined;

  /** @param behindInit the stream is watched only after the key exchange */
  constructor(behindInit: boolean) {
    if (behindInit) this.#skip = 0;
  }

  push(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    if (this.#skip === undefined) {
      if (this.#rest.length < 8) return;
      this.#skip = this.#rest.readUInt32BE(4);
    }
    if (this.#rest.length < this.#skip) return;
    this.#rest = this.#rest.subarray(this.#skip);
    this.#skip = 0;
    for (;;) {
      if (this.#rest.length < 3) return;
      const length = 3 + this.#rest.readUInt16BE(1);
      if (this.#rest.length < length) return;
      this.rekeys += (this.#rest[0] ?? 0) & 1;
      this.#rest = this.#rest.subarray(length);
    }
  }
}

describe('rekeying', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel?.unload());

  async function pair(options: ServerOptions, serverOptions = options) {
    const server = createServer({ ...serverOptions, mode: 'required', allowHalfOpen: true });
    server.listen({ port: 0, host: HOST });
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const { port } = server.address() as AddressInfo;
    const client = connect({ ...options, port, host: HOST, mode: 'required', allowHalfOpen: true });
    const [peer] = (await accepted) as [Socket];
    if (client.pending) await once(client, 'ready');
    return { client, peer, close: () => new Promise((resolve) => server.close(resolve)) };
  }

  test(`TC-39, TC-40: ${BYTES / MIB} MiB each way at once, new keys every 16 MiB`, {
    timeout: 170_000,
  }, async () => {
    const expected = { hash: digest(BYTES), size: BYTES };
    const { client, peer, close } = await pair({ rekey: { afterBytes: REKEY_BYTES }, resumption: false });
    const counters = [client, peer].map((socket) => {
      const counter = new FrameCounter(true);
      watch(transportOf(socket), (chunk) => counter.push(chunk));
      return counter;
    });
    const [atPeer, atClient] = await Promise.all([
      receive(peer),
      receive(client),
      send(client, BYTES),
      send(peer, BYTES),
    ]);
    assert.deepEqual(atPeer, expected);
    assert.deepEqual(atClient, expected);
    // Each end begins a generation every 16 MiB, together or one after the other; both take part in all of them.
    for (const { rekeys } of counters) {
      const least = Math.floor(BYTES / REKEY_BYTES) - 1;
      assert.ok(rekeys >= least && rekeys <= 2 * least + 2, `${rekeys}`);
    }
    await close();
  });

  test('TC-33, TC-39: new keys by bytes are seen in the stream, in both directions', () => {
    const transcript = Uint8Array.of(69, 3, 0x23, 69, 4, 1, 0x23);
    const [a, b] = (['A', 'B'] as const).map((role) => {
      const negotiated = negotiatedFromTranscript(transcript, role);
      assert.ok(negotiated.result === 'encrypt');
      return new Session({ negotiated, rekeyAfterBytes: 100_000 });
    });
    assert.ok(a && b);
    const counters = [new FrameCounter(false), new FrameCounter(false)] as const;
    for (let i = 0; i < 100; i++) {
      if (i > 4) a.write(Buffer.alloc(10_000));
      for (const [from, to, counter] of [
        [a, b, counters[0]],
        [b, a, counters[1]],
      ] as const) {
        const wire = Buffer.concat(from.pollTransmit());
        counter.push(wire);
        if (wire.length > 0) to.handleData(wire);
        while (to.pollEvent() !== undefined);
      }
    }
    assert.ok(counters[0].rekeys >= 9 && counters[0].rekeys <= 11, `${counters[0].rekeys}`);
    assert.equal(counters[1].rekeys, counters[0].rekeys, 'every new generation is answered');
  });

  test('by age: a key in use makes way, an idle connection stays quiet', async () => {
    const { client, peer, close } = await pair({ rekey: { afterTime: 20 } });
    const frames = wireBytes(client);
    client.write('x');
    peer.resume();
    client.resume();
    await sleep(200);
    const early = frames();
    assert.ok(early.sent > 0);
    await sleep(200);
    assert.deepEqual(frames(), early, 'quiet');
    client.write('y');
    await sleep(100);
    assert.ok(frames().received > early.received, 'the peer has answered with new keys');
    client.destroy();
    peer.destroy();
    await close();
  });

  test('TC-44: keep-alive by rekeying: a peer that lives answers for ever', async () => {
    const { client, peer, close } = await pair({ rekey: { keepAlive: 30 } });
    const errors: Error[] = [];
    for (const socket of [client, peer]) socket.on('error', (error) => errors.push(error)).resume();
    const before = wireBytes(client)();
    await sleep(400);
    const { sent, received } = wireBytes(client)();
    assert.ok(sent > before.sent + 3 * 20 && received > before.received + 3 * 20, `${sent} ${received}`);
    assert.deepEqual(errors, []);
    assert.equal(client.destroyed, false);
    client.destroy();
    peer.destroy();
    await close();
  });

  test('TC-44: keep-alive: a peer that hears and does not answer is given up, with an error of its own', async () => {
    const { client, peer, close } = await pair({ rekey: { keepAlive: 50 } }, {});
    // This peer does not read: its kernel acknowledges, nobody answers.
    const transport = transportOf(peer);
    transport.pause();
    transport.on('resume', () => transport.pause());
    peer.on('error', () => {});
    client.resume();
    const [error] = await once(client, 'error');
    assert.equal(error.code, 'ERR_TCPCRYPT_PEER_SILENT');
    peer.destroy();
    await close();
  });

  test('keep-alive does not give up a peer because this end does not read, nor when a direction has ended', async () => {
    const { client, peer, close } = await pair({ rekey: { keepAlive: 30 } }, {});
    client.on('error', (error) => assert.fail(error));
    peer.on('error', () => {});
    peer.write(Buffer.alloc(4 * MIB)); // nobody reads: back-pressure
    await sleep(200);
    assert.equal(client.destroyed, false);
    let size = 0;
    client.on('data', (data) => {
      size += data.length;
    });
    peer.end();
    await once(client, 'end');
    assert.equal(size, 4 * MIB);
    await sleep(150);
    assert.equal(client.destroyed, false, 'half-open, and nobody to ask');
    client.end();
    peer.resume();
    await Promise.all([once(client, 'close'), once(peer, 'close')]);
    await close();
  });
});

/** The transport below a socket: private, and only looked at. */
function transportOf(socket: Socket): net.Socket {
  const transports = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  const found = transports.find(
    (handle): handle is net.Socket =>
      handle instanceof net.Socket &&
      handle.localPort === socket.localPort &&
      handle.remotePort === socket.remotePort,
  );
  assert.ok(found !== undefined);
  return found;
}

/** Tells of everything that is read from the network. */
function watch(transport: net.Socket, seen: (chunk: Buffer) => void): void {
  assert.ok(transport instanceof BareSocket);
  const { owner } = transport;
  assert.ok(owner !== undefined);
  const original = owner.handleData;
  owner.handleData = (chunk) => {
    seen(Buffer.from(chunk));
    original.call(owner, chunk);
  };
}

const TCP_INFO = 11;

/** What the kernel counts: bytes that were acknowledged, and that arrived (`struct tcp_info`). */
function wireBytes(socket: Socket): () => { sent: number; received: number } {
  const transport = transportOf(socket);
  return () => {
    const info = getsockopt(descriptorOf(transport), IPPROTO_TCP, TCP_INFO, 136);
    return { sent: Number(info.readBigUInt64LE(120)), received: Number(info.readBigUInt64LE(128)) };
  };
}
