/** Data: much, in tiny pieces, faster than the reader, and through the tools of node:stream. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closing, dispose, ENCRYPTED, NET, OURS, pair } from './implementations.js';
import { KernelPart, needsRoot } from './kernel-part.js';

const MIB = 1024 * 1024;

/** `bytes` of noise that costs no time, and a hash of what was taken. */
function noise(bytes: number) {
  const block = randomBytes(MIB);
  const hash = createHash('sha256');
  function* blocks() {
    for (let left = bytes; left > 0; left -= block.length) {
      block.writeUInt32LE(left, 0);
      const piece = Buffer.from(block.subarray(0, Math.min(left, block.length)));
      hash.update(piece);
      yield piece;
    }
  }
  return { stream: Readable.from(blocks(), { objectMode: false }), hash };
}

/** Takes everything; resolves to the hash of it. */
async function digest(socket: net.Socket) {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { hash: hash.digest('hex'), length };
}

describe('streams', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  test('100 MiB in both directions at once', { timeout: 60_000 }, async () => {
    const { client, peer, server } = await pair(ENCRYPTED, {
      client: { allowHalfOpen: true } as object,
      server: { allowHalfOpen: true },
    });
    const [up, down] = [noise(100 * MIB), noise(100 * MIB)];
    up.stream.pipe(client);
    down.stream.pipe(peer);
    const [atClient, atPeer] = await Promise.all([digest(client), digest(peer)]);
    assert.deepEqual(atPeer, { hash: up.hash.digest('hex'), length: 100 * MIB });
    assert.deepEqual(atClient, { hash: down.hash.digest('hex'), length: 100 * MIB });
    assert.equal(client.bytesRead, 100 * MIB);
    assert.equal(client.bytesWritten, 100 * MIB);
    server.close();
  });

  test('one write of 64 MiB is encrypted as fast as it is taken', { timeout: 30_000 }, async () => {
    const connection = await pair(ENCRYPTED);
    const { client, peer } = connection;
    const data = randomBytes(64 * MIB);
    const before = process.memoryUsage().arrayBuffers;
    client.end(data);
    await sleep(100); // the peer does not read yet
    assert.ok(process.memoryUsage().arrayBuffers - before < 16 * MIB, 'no second copy of it all');
    assert.equal(client.bytesWritten, data.length);
    assert.equal((await digest(peer)).hash, createHash('sha256').update(data).digest('hex'));
    await dispose(connection);
  });

  test('50,000 writes of a few bytes arrive in order', { timeout: 30_000 }, async () => {
    const connection = await pair(ENCRYPTED);
    const expected = createHash('sha256');
    for (let i = 0; i < 50_000; i++) {
      const text = `${i},`;
      expected.update(text);
      connection.client.write(text);
    }
    connection.client.end();
    assert.equal((await digest(connection.peer)).hash, expected.digest('hex'));
    await dispose(connection);
  });

  for (const implementation of [NET, ...OURS]) {
    test(`a reader that does not read stops the writer: ${implementation.name}`, {
      timeout: 20_000,
    }, async () => {
      const connection = await pair(implementation);
      for (const [writer, reader] of [
        [connection.client, connection.peer],
        [connection.peer, connection.client],
      ] as const) {
        const chunk = Buffer.alloc(64 * 1024, 'x');
        let sent = 0;
        // Until 'drain' stays away: what fits into the buffers of the kernel and of this process, and no more.
        for (;;) {
          sent += chunk.length;
          if (writer.write(chunk)) continue;
          assert.equal(writer.writableNeedDrain, true);
          const drained = await Promise.race([once(writer, 'drain').then(() => true), sleep(150, false)]);
          if (!drained) break;
          assert.ok(sent < 64 * MIB, 'the writer is never stopped');
        }
        assert.ok(reader.readableLength < MIB, `${reader.readableLength} bytes wait in this process`);
        const drained = once(writer, 'drain');
        let read = 0;
        reader.on('data', (data) => {
          read += data.length;
        });
        await drained;
        while (read < sent) await sleep(5);
        assert.equal(read, sent);
        reader.removeAllListeners('data');
        reader.pause();
      }
      await dispose(connection);
    });
  }

  test('pause and resume', { timeout: 10_000 }, async () => {
    const connection = await pair(ENCRYPTED);
    const { client, peer } = connection;
    let read = '';
    client.on('data', (data) => {
      read += data;
      client.pause();
      setTimeout(() => client.resume(), 2);
    });
    for (let i = 0; i < 20; i++) {
      peer.write(`${i} `);
      await sleep(1);
    }
    peer.end();
    await closing(client);
    assert.equal(read, Array.from({ length: 20 }, (_, i) => `${i} `).join(''));
    await dispose(connection);
  });

  test('for await: the end of the stream ends the loop, an abort throws', { timeout: 10_000 }, async () => {
    const first = await pair(ENCRYPTED);
    first.peer.end('all of it');
    let read = '';
    for await (const chunk of first.client) read += chunk;
    assert.equal(read, 'all of it');
    await dispose(first);

    const second = await pair(ENCRYPTED);
    second.peer.write('the beginning');
    second.peer.on('error', () => {});
    await once(second.client, 'readable');
    second.peer.resetAndDestroy();
    await assert.rejects(
      async () => {
        for await (const _ of second.client);
      },
      { code: 'ECONNRESET' },
    );
    await dispose(second);
  });

  test('pipeline and finished', { timeout: 10_000 }, async () => {
    const connection = await pair(ENCRYPTED, { server: { allowHalfOpen: true } });
    const { client, peer } = connection;
    const echoed = pipeline(peer, new PassThrough(), peer);
    const pieces: Buffer[] = [];
    const sink = new Writable({
      write(chunk, _encoding, callback) {
        pieces.push(chunk);
        callback();
      },
    });
    const received = pipeline(client, sink);
    client.end('there and back');
    await Promise.all([echoed, received, finished(client)]);
    assert.equal(Buffer.concat(pieces).toString(), 'there and back');
    await dispose(connection);

    const broken = await pair(ENCRYPTED);
    const failure = assert.rejects(finished(broken.client), { code: 'ECONNRESET' });
    broken.client.resume();
    broken.peer.resetAndDestroy();
    await failure;
    await dispose(broken);
  });

  test('destroy() in the middle: the peer gets an error, never the end', { timeout: 10_000 }, async () => {
    const connection = await pair(ENCRYPTED);
    const { client, peer } = connection;
    const events: string[] = [];
    peer.on('end', () => events.push('end'));
    peer.on('error', ({ code }: NodeJS.ErrnoException) => events.push(`${code}`));
    peer.resume();
    client.write('half a sentence');
    await once(peer, 'data');
    client.destroy();
    await closing(peer);
    assert.deepEqual(events, ['ECONNRESET']);
    await dispose(connection);
  });

  test('no listener stays on a signal, no timer keeps the process', { timeout: 10_000 }, async () => {
    const kept = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const connection = await pair(ENCRYPTED);
    assert.equal(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, kept);
    await dispose(connection);
  });
});
