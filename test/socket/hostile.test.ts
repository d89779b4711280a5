/**
 * Hostile bytes after ENO has succeeded, from a real socket, at either end: reset with a code of its own, never
 * plaintext, never 'end', never a crash.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket as TcpSocket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createServer, type ErrorCode, type Socket } from '#src/index.js';
import { SOL_SOCKET, setsockopt } from '#src/kernel/libc.js';
import { descriptorOf } from '#src/socket/transport.js';
import { closing } from './implementations.js';
import { KernelPart, needsRoot } from './kernel-part.js';
import { RawPeer } from './raw-peer.js';

/** The hostile peer's role. */
type Role = 'A' | 'B';
type Code = ErrorCode | 'ECONNRESET';

interface Attack {
  readonly code: Code | Record<Role, Code>;
  /** What the application at our end gets to read before; none by default. */
  readonly delivered?: string;
  readonly handshakeTimeout?: number;
  readonly act: (peer: RawPeer) => void | Promise<void>;
}

const MESSAGE_LENGTH = 4; // offsets in Init1 and Init2
const CIPHER = { A: 9, B: 8 };
const PUBLIC_KEY_LENGTH = 32;

const withInit =
  (change: (init: Buffer, role: Role) => Buffer, end = false) =>
  async (peer: RawPeer): Promise<void> => {
    peer.tcp.write(change(await peer.init(), peer.session.role));
    if (end) peer.tcp.end();
  };

const DURING_KEY_EXCHANGE: Record<string, Attack> = {
  'wrong magic': {
    code: 'ERR_TCPCRYPT_INIT_MAGIC',
    act: withInit((init) => {
      init.writeUInt8(init.readUInt8(3) ^ 1, 3);
      return init;
    }),
  },
  'plaintext of another protocol': {
    code: 'ERR_TCPCRYPT_INIT_MAGIC',
    act: (peer) => void peer.tcp.write('GET / HTTP/1.1\r\n\r\n'),
  },
  'Init cut off by FIN (TC-46)': {
    code: 'ERR_TCPCRYPT_INIT_TRUNCATED',
    act: withInit((init) => init.subarray(0, -1), true),
  },
  'FIN instead of Init': { code: 'ERR_TCPCRYPT_INIT_TRUNCATED', act: (peer) => void peer.tcp.end() },
  'message_len of 4 GiB': {
    code: 'ERR_TCPCRYPT_INIT_TOO_LONG',
    act: withInit((init) => {
      init.writeUInt32BE(0xffffffff, MESSAGE_LENGTH);
      return init;
    }),
  },
  'message_len one above the limit': {
    code: 'ERR_TCPCRYPT_INIT_TOO_LONG',
    act: withInit((init) => {
      init.writeUInt32BE(65537, MESSAGE_LENGTH);
      return init.subarray(0, 8);
    }),
  },
  'message_len shorter than the fields': {
    code: 'ERR_TCPCRYPT_INIT_LENGTH',
    act: withInit((init) => {
      init.writeUInt32BE(init.length - 1, MESSAGE_LENGTH);
      return init;
    }),
  },
  'unoffered cipher (TC-10)': {
    code: { A: 'ERR_TCPCRYPT_INIT_NO_CIPHER', B: 'ERR_TCPCRYPT_INIT_CIPHER_NOT_OFFERED' },
    act: withInit((init, role) => {
      init.writeUInt16BE(0x7777, CIPHER[role]);
      return init;
    }),
  },
  'public key of zeros (TC-9, TC-12)': {
    code: 'ERR_TCPCRYPT_INIT_PUBLIC_KEY',
    act: withInit((init) => init.fill(0, init.length - PUBLIC_KEY_LENGTH)),
  },
  silence: { code: 'ERR_TCPCRYPT_HANDSHAKE_TIMEOUT', handshakeTimeout: 100, act: () => {} },
  'one byte at a time, too slowly': {
    code: 'ERR_TCPCRYPT_HANDSHAKE_TIMEOUT',
    handshakeTimeout: 200,
    act: async (peer) => {
      peer.tcp.setNoDelay(true);
      for (const byte of await peer.init()) {
        if (peer.tcp.destroyed) return;
        peer.tcp.write(Buffer.of(byte));
        await sleep(20);
      }
    },
  },
  RST: { code: 'ECONNRESET', act: (peer) => void peer.tcp.resetAndDestroy() },
};

const AFTER_KEY_EXCHANGE: Record<string, Attack> = {
  'tampered frame (TC-35)': {
    code: 'ERR_TCPCRYPT_FRAME_AUTH',
    delivered: 'good',
    act: (peer) => {
      const [good, bad] = [peer.frames('good'), peer.frames('evil')];
      bad.writeUInt8(bad.readUInt8(5) ^ 1, 5);
      peer.tcp.write(Buffer.concat([good, bad]));
    },
  },
  'replayed frame': {
    code: 'ERR_TCPCRYPT_FRAME_AUTH',
    delivered: 'good',
    act: (peer) => {
      const good = peer.frames('good');
      peer.tcp.write(Buffer.concat([good, good]));
    },
  },
  'frame left out': {
    code: 'ERR_TCPCRYPT_FRAME_AUTH',
    act: (peer) => {
      peer.frames('lost');
      peer.tcp.write(peer.frames('good'));
    },
  },
  'rekey bit added on the way': {
    code: 'ERR_TCPCRYPT_FRAME_AUTH',
    act: (peer) => {
      const frame = peer.frames('good');
      frame.writeUInt8(frame.readUInt8(0) ^ 1, 0);
      peer.tcp.write(frame);
    },
  },
  plaintext: { code: 'ERR_TCPCRYPT_FRAME_AUTH', act: (peer) => void peer.tcp.write('A'.repeat(20_000)) },
  'frame too short for its tag': {
    code: 'ERR_TCPCRYPT_FRAME_LENGTH',
    act: (peer) => void peer.tcp.write(Buffer.from('000010', 'hex')),
  },
  'frame cut off by FIN': {
    code: 'ERR_TCPCRYPT_FRAME_TRUNCATED',
    act: (peer) => void peer.tcp.end(peer.frames('cut off').subarray(0, -1)),
  },
  'FIN without FINp (TC-37, TC-38)': {
    code: 'ERR_TCPCRYPT_STREAM_TRUNCATED',
    delivered: 'good',
    act: (peer) => void peer.tcp.end(peer.frames('good')),
  },
  'frame after FINp (TC-36)': {
    code: 'ERR_TCPCRYPT_FRAME_AFTER_FIN',
    delivered: 'good',
    act: (peer) => {
      const good = peer.frames('good');
      peer.session.end();
      const last = Buffer.concat(peer.session.pollTransmit());
      peer.tcp.write(Buffer.concat([good, last, good]));
    },
  },
  RST: { code: 'ECONNRESET', act: (peer) => void peer.tcp.resetAndDestroy() },
};

const SECRET = 'what only the right peer may read';

describe('hostile bytes after ENO', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  /** Our end as seen by its application. */
  function observe(socket: Socket) {
    const seen = { read: '', events: [] as string[], error: undefined as NodeJS.ErrnoException | undefined };
    socket.write(SECRET);
    socket.on('data', (data) => {
      seen.read += data;
    });
    for (const event of ['secure', 'ready', 'end']) socket.on(event, () => seen.events.push(event));
    socket.on('error', (error) => {
      seen.error = error;
    });
    return seen;
  }

  /** We are the client: the hostile peer is host B. */
  async function attackClient(
    { code, act, delivered = '', handshakeTimeout = 5000 }: Attack,
    afterwards: boolean,
  ) {
    const listener = await RawPeer.listen();
    const socket = connect({ port: listener.port, host: '127.0.0.1', handshakeTimeout });
    const seen = observe(socket);
    const closed = closing(socket);
    const peer = await listener.accepted;
    listener.close();
    if (afterwards) await peer.open();
    await act(peer);
    await closed;
    assert.equal(seen.error?.code, typeof code === 'string' ? code : code.B);
    assert.deepEqual(seen.events, afterwards ? ['secure', 'ready'] : []);
    assert.equal(seen.read, delivered);
    if (code !== 'ECONNRESET') assert.equal(await peer.over, 'ECONNRESET', 'the peer sees RST');
    assert.equal(peer.received.includes(SECRET), false);
  }

  /** We are the server: the hostile peer is host A. */
  async function attackServer(
    { code, act, delivered = '', handshakeTimeout = 5000 }: Attack,
    afterwards: boolean,
  ) {
    const server = createServer({ handshakeTimeout });
    server.listen(0, '127.0.0.1');
    let connections = 0;
    const outcome = new Promise<{ error: NodeJS.ErrnoException | undefined; read: string; events: string[] }>(
      (resolve) => {
        server.on('connection', (socket) => {
          connections += 1;
          const seen = observe(socket);
          socket.on('close', () => resolve(seen));
        });
        server.on('clientError', (error, socket: Socket) => {
          assert.equal(socket.destroyed, true);
          assert.equal(socket.remoteAddress, '127.0.0.1');
          resolve({ error, read: '', events: [] });
        });
      },
    );
    const port = server.address()?.port ?? 0;
    const peer = await RawPeer.connect(port);
    if (afterwards) await peer.open();
    await act(peer);
    const { error, read, events } = await outcome;
    assert.equal(error?.code, typeof code === 'string' ? code : code.A);
    assert.equal(connections, afterwards ? 1 : 0);
    assert.deepEqual(events, []);
    assert.equal(read, delivered);
    if (code !== 'ECONNRESET') assert.equal(await peer.over, 'ECONNRESET', 'the peer sees RST');
    assert.equal(peer.received.includes(SECRET), false);
    const closed = closing(server);
    server.close();
    await closed;
  }

  for (const [attacks, afterwards] of [
    [DURING_KEY_EXCHANGE, false],
    [AFTER_KEY_EXCHANGE, true],
  ] as const) {
    for (const [name, attack] of Object.entries(attacks)) {
      const stage = afterwards ? 'after' : 'during';
      test(`${name}, ${stage} the key exchange, against a client`, { timeout: 10_000 }, () =>
        attackClient(attack, afterwards),
      );
      test(`${name}, ${stage} the key exchange, against a server`, { timeout: 10_000 }, () =>
        attackServer(attack, afterwards),
      );
    }
  }

  test('100 MB of endless Init do not stay in memory', { timeout: 20_000 }, async () => {
    const listener = await RawPeer.listen();
    const socket = connect({ port: listener.port, host: '127.0.0.1' });
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    const peer = await listener.accepted;
    listener.close();
    const init = await peer.init();
    init.writeUInt32BE(65536, MESSAGE_LENGTH);
    peer.tcp.write(init);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1000 && !peer.tcp.destroyed; i++) {
      if (!peer.tcp.write(Buffer.alloc(100_000, 0x41))) await Promise.race([peer.over, sleep(1)]);
    }
    const { code } = await failed; // the first 65536 bytes are a valid Init2, what follows are no frames
    assert.match(`${code}`, /^ERR_TCPCRYPT_(FRAME_AUTH|INIT)/);
    assert.ok(process.memoryUsage().arrayBuffers - before < 20_000_000);
  });

  test('TC-40: new keys asked for on and on by a peer that reads no answer: they wait in no memory', {
    timeout: 20_000,
  }, async () => {
    const server = createServer((socket) => socket.resume().on('error', () => {})); // it ends with RST
    server.listen(0, '127.0.0.1');
    const peer = await RawPeer.connect(server.address()?.port ?? 0);
    await peer.open();
    const transport = otherEndOf(peer.tcp);
    // So that the buffers of the operating system are full soon.
    setsockopt(descriptorOf(transport), SOL_SOCKET, SO_SNDBUF, 4608);
    setsockopt(descriptorOf(peer.tcp), SOL_SOCKET, SO_RCVBUF, 4608);
    peer.tcp.pause();
    const ASKED = 30_000;
    for (let asked = 0; asked < ASKED; ) {
      const wire: Uint8Array[] = [];
      for (const until = asked + 1000; asked < until; asked++) {
        peer.session.write(Buffer.of(1)); // without data it would have to wait for the answer
        peer.session.rekey();
        wire.push(...peer.session.pollTransmit());
      }
      if (!peer.tcp.write(Buffer.concat(wire))) await once(peer.tcp, 'drain');
      await sleep(1);
      assert.ok(transport.writableLength < 100_000, `${transport.writableLength} bytes wait`);
    }
    assert.ok(transport.writableLength > 0, 'the operating system took all of them');

    // Whoever reads them after all finds each of them, and both ends are in the same generation then.
    let answers = 0;
    const read = (): void => {
      peer.session.handleData(peer.take());
      for (let event = peer.session.pollEvent(); event !== undefined; event = peer.session.pollEvent())
        if (event.type === 'rekeyed') answers += 1;
    };
    for (const fd of [descriptorOf(transport), descriptorOf(peer.tcp)])
      for (const buffer of [SO_SNDBUF, SO_RCVBUF]) setsockopt(fd, SOL_SOCKET, buffer, 200_000);
    peer.tcp.on('data', read);
    peer.tcp.resume();
    while (answers < ASKED) await once(peer.tcp, 'data');
    assert.equal(answers, ASKED);
    peer.tcp.destroy();
    const closed = closing(server);
    server.close();
    await closed;
  });
});

const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

/** Of a connection within this process: what is below its other end. */
function otherEndOf({ localPort }: TcpSocket): TcpSocket {
  const process_ = process as unknown as { _getActiveHandles(): Partial<TcpSocket>[] };
  const other = process_._getActiveHandles().find(({ remotePort }) => remotePort === localPort);
  assert.ok(other);
  return other as TcpSocket;
}
