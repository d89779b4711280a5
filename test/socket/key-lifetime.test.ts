/** How long a server's key pair lives, and that nobody else's is shared. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createServer, type ServerOptions } from '#src/index.js';
import type { KeyPair } from '#src/session/index.js';
import { encryption, encryptionOfListener } from '#src/socket/options.js';
import { SharedKeyPairs } from '#src/socket/shared-key-pairs.js';
import { withCode } from '../support/code.js';
import { KernelPart, needsRoot } from './kernel-part.js';
import { RawPeer } from './raw-peer.js';

/** Init1 with one AEAD identifier and X25519 (RFC 8548 §4.1): magic 4, length 4, count 1, cipher 2, N_A 32, Pub_A 32. */
const INIT1_LENGTH = 75;
/** Init2 with X25519: magic 4, length 4, cipher 2, N_B 32, Pub_B 32. */
const INIT2_LENGTH = 74;
const PUBLIC_KEY_LENGTH = 32;

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

  /** The public key at the end of the peer's Init message. */
  async function publicKeyOf(peer: RawPeer, initLength: number): Promise<string> {
    while (peer.received.length < initLength) await once(peer.tcp, 'data');
    peer.tcp.resetAndDestroy();
    return peer.received.subarray(initLength - PUBLIC_KEY_LENGTH, initLength).toString('hex');
  }

  /** Pub_B of one connection. */
  async function publicKey(port: number): Promise<string> {
    const peer = await RawPeer.connect(port);
    peer.tcp.write(await peer.init());
    return publicKeyOf(peer, INIT2_LENGTH);
  }

  test('TC-8: unless asked otherwise, connections share one for a second at most', async () => {
    const keys = await withServer({}, async (port) => {
      const started = performance.now();
      const seen = [await publicKey(port), await publicKey(port)];
      assert.ok(performance.now() - started < 900, 'too slow to tell');
      await sleep(1000);
      return [...seen, await publicKey(port)];
    });
    assert.equal(keys[0], keys[1]);
    assert.notEqual(keys[1], keys[2]);
  });

  test('TC-8: keyLifetime 0: a fresh one for each connection', async () => {
    const keys = await withServer({ keyLifetime: 0 }, async (port) => [
      await publicKey(port),
      await publicKey(port),
    ]);
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

  test('TC-8: a key exchange that began under a pair that is gone by now ends with the next', async () => {
    const lifetime = 200;
    await withServer({ keyLifetime: lifetime }, async (port) => {
      const before = await publicKey(port);
      const peer = await RawPeer.connect(port);
      await sleep(lifetime + 100);
      const init1 = await peer.init();
      peer.tcp.write(init1.subarray(0, 20));
      await sleep(50);
      peer.tcp.write(init1.subarray(20));
      assert.notEqual(await publicKeyOf(peer, INIT2_LENGTH), before);
    });
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

  test('TC-12: an all-zero secret under a shared pair is refused, and leaves the pair as it was', async () => {
    await withServer({ keyLifetime: 60_000 }, async (port) => {
      const before = await publicKey(port);
      for (const first of [0, 1]) {
        const hostile = await RawPeer.connect(port);
        const init1 = await hostile.init();
        init1.fill(0, INIT1_LENGTH - PUBLIC_KEY_LENGTH, INIT1_LENGTH);
        init1[INIT1_LENGTH - PUBLIC_KEY_LENGTH] = first; // points of small order
        hostile.tcp.write(init1);
        assert.equal(await hostile.over, 'ECONNRESET');
        assert.equal(hostile.received.length, 0);
      }
      const peer = await RawPeer.connect(port);
      await peer.open();
      assert.equal(peer.session.state, 'open');
      peer.tcp.resetAndDestroy();
      assert.equal(await publicKey(port), before);
    });
  });

  test('TC-8: who connects has a fresh one each time, whatever keyLifetime says', async () => {
    const keys = new Set<string>();
    for (let i = 0; i < 2; i++) {
      const listener = await RawPeer.listen();
      const options = { port: listener.port, host: '127.0.0.1', keyLifetime: 60_000, ciphers: [1] } as const;
      const socket = connect(options).on('error', () => {});
      keys.add(await publicKeyOf(await listener.accepted, INIT1_LENGTH));
      listener.close();
      socket.destroy();
    }
    assert.equal(keys.size, 2);
  });
});

test('TC-8: only what is accepted shares a pair: not a simultaneous open, also in role B', () => {
  for (const role of ['A', 'B'] as const)
    assert.equal(encryption({ keyLifetime: 60_000, role }).keyPairs, undefined);
  assert.equal(encryptionOfListener({}).keyPairs?.lifetime, 1000);
  assert.equal(encryptionOfListener({ keyLifetime: 0 }).keyPairs, undefined);
  const pairs = [encryptionOfListener({}), encryptionOfListener({})].map(({ keyPairs }) => keyPairs);
  assert.notEqual(pairs[0]?.current(0x23), pairs[1]?.current(0x23), 'each listener has its own');
});

test('TC-8: two minutes at most', () => {
  for (const keyLifetime of [-1, 1.5, 120_001, Number.NaN]) {
    assert.throws(() => createServer({ keyLifetime }), withCode('ERR_TCPCRYPT_ARGUMENT'));
    assert.throws(() => connect({ port: 1, keyLifetime }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  }
  createServer({ keyLifetime: 120_000 });
});

test('TC-8: the private key is erased as soon as its time is over, also where nobody wants the next', async () => {
  const pairs = new SharedKeyPairs(30);
  const [old, other] = [pairs.current(0x23), pairs.current(0x21)];
  assert.notEqual(old.curve, other.curve);
  assert.equal(pairs.current(0x23), old);
  const peer = old.publicKey;
  old.agree(peer).fill(0);
  const erased = (pair: KeyPair): boolean => {
    try {
      pair.agree(pair.publicKey);
      return false;
    } catch (error) {
      return withCode('ERR_TCPCRYPT_CLOSED')(error);
    }
  };
  for (let i = 0; !(erased(old) && erased(other)) && i < 100; i++) await sleep(20);
  assert.ok(erased(old) && erased(other));
  const next = pairs.current(0x23);
  assert.notDeepEqual(next.publicKey, old.publicKey);
  next.agree(peer).fill(0);
});
