/** What the two ends agree on: every TEP with every AEAD, fresh and resumed, on this machine's kernel. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import {
  AEADS,
  type AeadId,
  type ConnectOptions,
  connect,
  createServer,
  type ServerOptions,
  SessionCache,
  TEPS,
  type TepId,
} from '#src/index.js';
import { KernelPart, needsRoot } from './kernel-part.js';

const HOST = '127.0.0.1';
const TEP_IDS = Object.keys(TEPS).map(Number) as TepId[];
const AEAD_IDS = Object.keys(AEADS).map(Number) as AeadId[];
const DATA = randomBytes(200_000);

describe('algorithms', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel?.unload());

  /** `count` connections, one after the other, that carry DATA there and back. */
  async function connections(client: Partial<ConnectOptions>, server: ServerOptions, count = 1) {
    const listener = createServer({ resumption: new SessionCache(), ...server }, (socket) => {
      aware.push(socket.peerAware);
      socket.on('error', () => {});
      socket.pipe(socket);
    });
    const aware: (boolean | undefined)[] = [];
    listener.listen({ port: 0, host: HOST });
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const resumption = new SessionCache();
    const results = [];
    try {
      for (let i = 0; i < count; i++) {
        const socket = connect({ port, host: HOST, resumption, ...client });
        socket.end(DATA);
        const received: Buffer[] = [];
        for await (const chunk of socket) received.push(chunk as Buffer);
        assert.ok(Buffer.concat(received).equals(DATA));
        const { encrypted, tep, cipher, resumed, plainReason, peerAware } = socket;
        results.push({
          encrypted,
          tep,
          cipher,
          resumed,
          plainReason,
          peerAware,
          awareAtServer: aware.at(-1),
        });
      }
    } finally {
      listener.close();
    }
    return results;
  }

  for (const tep of TEP_IDS)
    for (const cipher of AEAD_IDS)
      test(`TC-45: ${TEPS[tep].curve} with ${AEADS[cipher].name}, fresh and resumed`, async () => {
        const [fresh, resumed] = await connections({ teps: [tep], ciphers: [cipher] }, { teps: TEP_IDS }, 2);
        assert.deepEqual([fresh?.tep, fresh?.cipher, fresh?.resumed], [tep, cipher, false]);
        assert.deepEqual([resumed?.tep, resumed?.cipher, resumed?.resumed], [tep, cipher, true]);
      });

  test('by default X25519 and AES-128-GCM; X448, P-256 and the other AEADs for who wants them; P-521 on request only', async () => {
    const [both] = await connections({}, {});
    assert.deepEqual([both?.tep, both?.cipher], [0x23, 0x0001]);
    for (const tep of [0x24, 0x21] as const)
      assert.equal((await connections({ teps: [tep] }, {}))[0]?.tep, tep);
    for (const cipher of AEAD_IDS)
      assert.equal((await connections({ ciphers: [cipher] }, {}))[0]?.cipher, cipher);
    const [p521] = await connections({ teps: [0x22] }, {});
    assert.equal(p521?.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
  });

  test('TC-13: host B chooses, by its own preference', async () => {
    const [result] = await connections(
      { teps: [0x23, 0x24, 0x21], ciphers: [0x0001, 0x0002, 0x0010] },
      { teps: [0x21, 0x24], ciphers: [0x0010, 0x0002] },
    );
    assert.deepEqual([result?.tep, result?.cipher], [0x21, 0x0010]);
  });

  test('TC-24: a resumption offer of another TEP brings X25519 along, for a peer that gave that one up', async () => {
    const resumption = new SessionCache();
    const host = `127.69.${process.pid & 0xff}.2`; // nobody else takes the port between the two servers
    const server = createServer({ teps: [0x24] }, (socket) => socket.end()).listen({ port: 0, host });
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const visit = async (to = port) => {
      const socket = connect({ port: to, host, resumption });
      socket.resume();
      await once(socket, 'ready');
      const { tep, transcript } = socket;
      socket.end();
      await once(socket, 'close');
      return { tep, transcript: transcript?.toString('hex') };
    };
    assert.equal((await visit()).tep, 0x24);
    server.close();
    await once(server, 'close');
    const strict = createServer({ teps: [0x23] }, (socket) => socket.end()).listen({ port, host });
    await once(strict, 'listening');
    const { tep, transcript } = await visit();
    assert.equal(tep, 0x23);
    assert.match(transcript ?? '', /^451423a4(..){16}45040123$/, 'a nonce of 7 bytes makes room for it');
    strict.close();
  });

  test('ENO-20: the a bit says what the application knows, in both directions', async () => {
    for (const [client, server] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ] as const) {
      for (const result of await connections({ aware: client }, { aware: server }, 2)) {
        assert.deepEqual([result.peerAware, result.awareAtServer], [server, client]);
        assert.equal(result.encrypted, true);
      }
    }
  });

  test('ENO-21: mandatory application-aware mode: plain, or refused, with a peer that is not aware', async () => {
    const strict = { aware: true, mandatoryAware: true };
    assert.equal((await connections(strict, { aware: true }))[0]?.encrypted, true);
    const [towards] = await connections(strict, {});
    assert.deepEqual([towards?.encrypted, towards?.plainReason], [false, 'ERR_TCPCRYPT_ENO_UNAWARE']);
    const [from] = await connections({}, strict);
    assert.deepEqual([from?.encrypted, from?.plainReason], [false, 'ERR_TCPCRYPT_ENO_ABSENT']);
    const refusing = connections({ ...strict, mode: 'required' }, {});
    await assert.rejects(refusing, { code: 'ERR_TCPCRYPT_NOT_ENCRYPTED' });
  });
});
