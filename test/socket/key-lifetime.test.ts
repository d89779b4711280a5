/** How long a server's key pair lives. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createServer, type ServerOptions } from '#src/index.js';
import { SharedKeyPairs } from '#src/socket/shared-key-pairs.js';
import { withCode } from '../support/code.js';
import { KernelPart, needsRoot } from './kernel-part.js';
import { RawPeer } from './raw-peer.js';

/** Init2 with X25519 (RFC 8548 §4.1): magic 4, length 4, cipher 2, N_B 32, Pub_B 32. */
const INIT2_LENGTH = 74;
const PUB_B = 42;

describe('key pairs of a server', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  async function withServer<T>(options: ServerOptions, work: (port: number) => Promise<T>): Promise<T> {
    const server = createServer(options, (socket) => socket.on('error', () => {}).end('over'));
    server.on('clientError', () => {});
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      return await work(server.address()?.port ?? 0);
    } finally {
      server.close();
    }
  }

  /** Pub_B of one connection. */
  async function publicKey(port: number): Promise<string> {
    const peer = await RawPeer.connect(port);
    peer.tcp.write(await peer.init());
    while (peer.received.length < INIT2_LENGTH) await once(peer.tcp, 'data');
    peer.tcp.resetAndDestroy();
    return peer.received.subarray(PUB_B, INIT2_LENGTH).toString('hex');
  }

  test('TC-8: a fresh one for each connection, unless asked otherwise', async () => {
    const keys = await withServer({}, async (port) => [await publicKey(port), await publicKey(port)]);
    assert.equal(new Set(keys).size, 2);
  });

  test('TC-8: keyLifetime: all connections of that time share one, then comes the next', async () => {
    const lifetime = 500;
    const keys = await withServer({ keyLifetime: lifetime }, async (port) => {
      const first = [await publicKey(port), await publicKey(port)];
      await sleep(lifetime + 100);
      return [...first, await publicKey(port)];
    });
    assert.equal(keys[0], keys[1]);
    assert.notEqual(keys[1], keys[2]);
  });

  test('connections over a shared pair are complete, and have session IDs of their own', async () => {
    const ids = await withServer({ keyLifetime: 60_000 }, async (port) => {
      const seen = new Set<string>();
      for (let i = 0; i < 3; i++) {
        const socket = connect({ port, host: '127.0.0.1', mode: 'required', resumption: false });
        assert.equal(String(await once(socket, 'data')), 'over');
        seen.add(socket.sessionId.toString('hex'));
        socket.end();
        await once(socket, 'close');
      }
      return seen;
    });
    assert.equal(ids.size, 3);
  });
});

test('TC-8: two minutes at most', () => {
  for (const keyLifetime of [-1, 1.5, 120_001, Number.NaN])
    assert.throws(() => createServer({ keyLifetime }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  createServer({ keyLifetime: 120_000 });
});

test('TC-8: the private key is erased once those that got it are done', async () => {
  const pairs = new SharedKeyPairs(20, 60);
  const [old, other] = [pairs.take(0x23), pairs.take(0x21)];
  assert.notEqual(old.curve, other.curve);
  while (pairs.take(0x23) === old) await sleep(5);
  const peer = pairs.take(0x23).publicKey;
  old.agree(peer).fill(0); // a key exchange that began in time may end
  const erased = (): boolean => {
    try {
      old.agree(peer);
      return false;
    } catch (error) {
      return withCode('ERR_TCPCRYPT_CLOSED')(error);
    }
  };
  for (let i = 0; !erased() && i < 100; i++) await sleep(20);
  assert.ok(erased());
});
