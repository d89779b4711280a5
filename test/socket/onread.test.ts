/** The option `onread`, compared with that of node:net. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sharedKey } from '#src/auth/index.js';
import { TcpcryptError } from '#src/errors.js';
import { connect, createServer } from '#src/index.js';
import { OnreadSocket } from '#src/socket/onread-socket.js';
import { closing, ENCRYPTED, type Implementation, listening, NET, OURS, record } from './implementations.js';
import { KernelPart, needsRoot } from './kernel-part.js';

const MESSAGE = randomBytes(700_001);

/** A client with `onread` of a server that sends MESSAGE, then FIN: what the client saw. */
async function watch(
  { connect, createServer }: Implementation,
  onread: (client: () => net.Socket) => net.OnReadOpts,
  more: { options?: object; made?: (client: net.Socket) => void } = {},
) {
  const server = createServer((peer) => peer.on('error', () => {}).end(MESSAGE));
  const port = await listening(server);
  const client: net.Socket = connect({
    port,
    host: '127.0.0.1',
    onread: onread(() => client),
    ...more.options,
  });
  const log = record(client);
  client.on('error', () => {});
  more.made?.(client);
  await closing(client);
  server.close();
  await closing(server);
  return { log, read: client.bytesRead };
}

/** Bytes as they were told, and how. */
class Told {
  readonly pieces: Buffer[] = [];
  readonly buffers = new Set<Uint8Array>();
  take(length: number, buffer: Uint8Array): void {
    assert.ok(length > 0 && length <= buffer.length);
    this.pieces.push(Buffer.from(buffer.subarray(0, length)));
    this.buffers.add(buffer);
  }
  get bytes(): Buffer {
    return Buffer.concat(this.pieces);
  }
}

/** Each returns what must be the same for every implementation. */
const SCENARIOS: Record<string, (implementation: Implementation) => Promise<unknown>> = {
  'everything comes in the memory that was given, and FIN after it': async (implementation) => {
    const told = new Told();
    const buffer = Buffer.alloc(10_000);
    const seen = await watch(implementation, () => ({
      buffer,
      callback: (length, given) => {
        told.take(length, given);
        return true;
      },
    }));
    assert.deepEqual([...told.buffers], [buffer]);
    assert.ok(told.bytes.equals(MESSAGE));
    return seen;
  },
  'a function gives memory for each piece; without any, the last is used again': async (implementation) => {
    const told = new Told();
    const given: Buffer[] = [];
    const buffer = (): Buffer => {
      if (given.length === 3) return undefined as unknown as Buffer;
      given.push(Buffer.alloc(5000 + given.length));
      return given.at(-1) as Buffer;
    };
    const seen = await watch(implementation, () => ({
      buffer,
      callback: (length, given) => {
        told.take(length, given);
        return true;
      },
    }));
    assert.ok(told.bytes.equals(MESSAGE));
    assert.deepEqual([...told.buffers], given);
    return { seen, given: given.length };
  },
  'after false nothing comes until resume(), and FIN neither': async (implementation) => {
    const told = new Told();
    const stops: number[] = [];
    const seen = await watch(implementation, (client) => ({
      buffer: Buffer.alloc(200_000),
      callback: (length, given) => {
        told.take(length, given);
        const count = told.pieces.length;
        setTimeout(() => {
          stops.push(told.pieces.length - count);
          client().resume();
        }, 10);
        return false;
      },
    }));
    assert.ok(told.bytes.equals(MESSAGE));
    assert.ok(stops.length > 3 && stops.every((more) => more === 0), String(stops));
    return seen;
  },
  'pause() within the callback is as good as false': async (implementation) => {
    const told = new Told();
    let paused = 0;
    const seen = await watch(implementation, (client) => ({
      buffer: Buffer.alloc(65_536),
      callback: (length, given) => {
        assert.equal(paused, 0, 'paused');
        told.take(length, given);
        paused = 1;
        client().pause();
        setTimeout(() => {
          paused = 0;
          client().resume();
        }, 2);
        return true;
      },
    }));
    assert.ok(told.bytes.equals(MESSAGE));
    return seen;
  },
  'a client that was paused before it connected hears nothing until resume()': async (implementation) => {
    const told = new Told();
    let early = -1;
    const seen = await watch(
      implementation,
      () => ({
        buffer: Buffer.alloc(65_536),
        callback: (length, given) => {
          told.take(length, given);
          return true;
        },
      }),
      {
        made: (client) => {
          client.pause();
          client.once('ready', () =>
            setTimeout(() => {
              early = told.pieces.length;
              client.resume();
            }, 30),
          );
        },
      },
    );
    assert.equal(early, 0);
    assert.ok(told.bytes.equals(MESSAGE));
    return seen;
  },
  'a client that destroys itself within the callback hears no more': async (implementation) => {
    let calls = 0;
    const { log } = await watch(implementation, (client) => ({
      buffer: Buffer.alloc(100),
      callback: () => {
        calls += 1;
        client().destroy();
        return true;
      },
    }));
    await sleep(10);
    return { calls, log };
  },
  'a half-open client goes on sending after FIN': async ({ connect, createServer }) => {
    const server = createServer({ allowHalfOpen: true }, (peer) => {
      peer.end('only this');
    });
    const port = await listening(server);
    const accepted = once(server, 'connection');
    const told = new Told();
    const client = connect({
      port,
      host: '127.0.0.1',
      allowHalfOpen: true,
      onread: {
        buffer: Buffer.alloc(4),
        callback: (length, given) => {
          told.take(length, given);
          return true;
        },
      },
    });
    const log = record(client);
    const [peer] = (await accepted) as [net.Socket];
    let heard = '';
    peer.on('data', (data) => {
      heard += data;
    });
    await once(client, 'end');
    client.end('still here');
    await closing(client);
    server.close();
    await closing(server);
    return { log, heard, told: told.bytes.toString(), pieces: told.pieces.length };
  },
};

describe('onread', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(async () => {
    kernel = await KernelPart.load();
  });
  after(() => kernel.unload());

  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    test(name, async () => {
      const expected = await scenario(NET);
      for (const implementation of OURS)
        assert.deepEqual(await scenario(implementation), expected, implementation.name);
    });
  }

  test('with `auth`, nothing is told before the peer is authenticated, and everything after', async () => {
    const auth = { offer: [sharedKey({ key: randomBytes(32) })] };
    const server = createServer({ auth }, (peer) => {
      peer.end(MESSAGE);
    });
    const port = await listening(server as unknown as net.Server);
    const told = new Told();
    const client = connect({
      port,
      host: '127.0.0.1',
      auth,
      onread: {
        buffer: Buffer.alloc(30_000),
        callback: (length, given) => {
          assert.notEqual(client.peer, undefined);
          told.take(length, given);
          return true;
        },
      },
    });
    await closing(client);
    assert.ok(told.bytes.equals(MESSAGE));
    server.close();
  });

  test('what is read is not allocated', async () => {
    const { createServer } = ENCRYPTED;
    const server = createServer((peer) => {
      let left = 2000;
      const more = (): void => {
        while (left-- > 0) if (!peer.write(MESSAGE.subarray(0, 65_536))) return;
        peer.end();
      };
      peer.on('drain', more);
      more();
    });
    const port = await listening(server);
    let received = 0;
    let most = 0;
    const buffer = Buffer.alloc(65_536);
    const client = connect({
      port,
      host: '127.0.0.1',
      onread: {
        buffer,
        callback: (length) => {
          received += length;
          most = Math.max(most, process.memoryUsage().arrayBuffers);
          return true;
        },
      },
    });
    await once(client, 'ready');
    const before = process.memoryUsage().arrayBuffers;
    await closing(client);
    assert.ok(received >= 131_000_000);
    // Its own, the ones that all connections share, and those of the sender; without `onread` it is 32 MB and more.
    assert.ok(most - before < 8_000_000, `${most - before} bytes`);
    server.close();
  });

  test('wrong options are named', () => {
    const callback = (): boolean => true;
    for (const onread of [
      null,
      {},
      { buffer: Buffer.alloc(1) },
      { callback },
      { buffer: Buffer.alloc(0), callback },
      { buffer: 'text', callback },
      { buffer: () => 7, callback },
    ])
      assert.throws(
        () => connect({ port: 9, onread: onread as unknown as net.OnReadOpts }),
        (error) => error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_ARGUMENT',
      );
  });

  test('after an exception of the callback the rest still comes, in order', () => {
    const told = new Told();
    const socket = new OnreadSocket(
      {},
      {
        buffer: Buffer.alloc(3),
        callback: (length, buffer) => {
          told.take(length, buffer);
          if (told.pieces.length === 2) throw new Error('not now');
          return true;
        },
      },
    );
    const lent = Buffer.from('abcdefgh');
    assert.throws(() => socket.push(lent), /not now/);
    lent.fill(0);
    assert.equal(socket.push(Buffer.from('ij')), true);
    assert.equal(told.bytes.toString(), 'abcdefghij');
  });
});
