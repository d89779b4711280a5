/** What node:net does not have: encryption, its properties, modes, and hosts on which nobody ran "tcpcrypt up". */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import {
  type ConnectOptions,
  connect,
  createServer,
  type Server,
  type ServerOptions,
  type Socket,
  type TcpcryptError,
} from '#src/index.js';
import { withCode } from '../support/code.js';
import { closing, failing, listening } from './implementations.js';
import { INDEX, KernelPart, needsRoot } from './kernel-part.js';

const NOBODY = 65534;

/** A connection of ours, ready at both ends. */
async function connected(client: Partial<ConnectOptions> = {}, options: ServerOptions = {}) {
  const server = createServer(options);
  server.listen(0, '127.0.0.1');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const socket = connect({ port: portOf(server), host: '127.0.0.1', ...client });
  const [[peer]] = await Promise.all([accepted, once(socket, 'ready')]);
  const close = async () => {
    socket.destroy();
    peer.on('error', () => {}).destroy();
    server.close();
    await closing(server);
  };
  return { server, socket, peer, close };
}

const portOf = (server: Server): number => server.address()?.port ?? 0;

describe('encryption', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  test('both ends know the same session', { timeout: 5000 }, async () => {
    const { socket, peer, close } = await connected();
    assert.equal(socket.encrypted && peer.encrypted, true);
    assert.equal(socket.sessionId.length, 33);
    assert.equal(socket.sessionId[0], 0x23);
    assert.deepEqual(socket.sessionId, peer.sessionId);
    assert.deepEqual([socket.role, peer.role], ['A', 'B']);
    assert.deepEqual([socket.tep, peer.tep], [0x23, 0x23]);
    assert.deepEqual([socket.cipher, peer.cipher], [0x0001, 0x0001]);
    assert.deepEqual([socket.resumed, socket.peerAware, socket.plainReason], [false, false, undefined]);
    assert.equal(socket.transcript?.toString('hex'), '4505212423' + '45040123');
    assert.deepEqual(socket.transcript, peer.transcript);
    // Copies: nobody can change the session's own.
    socket.sessionId.fill(0);
    assert.deepEqual(socket.sessionId, peer.sessionId);
    const id = peer.sessionId;
    await close();
    assert.deepEqual(socket.sessionId, id, 'still there after the end, for the log');
  });

  test('every connection has a session ID of its own', { timeout: 5000 }, async () => {
    const ids = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const { socket, close } = await connected();
      ids.add(socket.sessionId.toString('hex'));
      await close();
    }
    assert.equal(ids.size, 10);
  });

  test("ENO-61: 'connect', 'secure', 'ready', and what is known when: no session ID is an error", {
    timeout: 5000,
  }, async () => {
    const server = createServer((peer) => peer.resume());
    server.listen(0, '127.0.0.1');
    // A resumed session has its ID from the beginning.
    const socket = connect({ port: portOf(server), host: '127.0.0.1', resumption: false });
    assert.deepEqual([socket.encrypted, socket.role, socket.cipher], [false, undefined, undefined]);
    assert.throws(() => socket.sessionId, withCode('ERR_TCPCRYPT_NO_SESSION'));
    const seen: unknown[] = [];
    socket.on('connect', () => {
      seen.push(['connect', socket.encrypted, socket.role, socket.connecting, socket.pending]);
      assert.throws(() => socket.sessionId, withCode('ERR_TCPCRYPT_NO_SESSION'));
    });
    socket.on('secure', () => seen.push(['secure', socket.sessionId.length, socket.cipher]));
    socket.on('ready', () => {
      seen.push(['ready', socket.pending]);
      socket.resume().end();
    });
    await closing(socket);
    assert.deepEqual(seen, [
      ['connect', true, 'A', false, true],
      ['secure', 33, 1],
      ['ready', false],
    ]);
    server.close();
  });

  test('rekey() in the middle of the data', { timeout: 5000 }, async () => {
    const { socket, peer, close } = await connected();
    let read = '';
    peer.on('data', (data) => {
      read += data;
    });
    for (let i = 0; i < 20; i++) {
      socket.write(`${i} `);
      socket.rekey();
      peer.rekey();
    }
    socket.end();
    await once(peer, 'end');
    assert.equal(read, Array.from({ length: 20 }, (_, i) => `${i} `).join(''));
    await close();
    socket.rekey(); // of no consequence any more
  });

  test('another program reads the session ID from the descriptor', { timeout: 10_000 }, async () => {
    const { socket, peer, close } = await connected();
    const fd = fdOf(socket);
    assert.ok(fd !== undefined);
    const script =
      'import os,socket;s=socket.socket(fileno=3);print(s.getsockopt(6,1027,64).hex());s.detach()';
    const python = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit', fd] });
    let said = '';
    python.stdout?.on('data', (data) => {
      said += data;
    });
    await once(python, 'close');
    assert.equal(said.trim(), peer.sessionId.toString('hex'));
    await close();
  });

  for (const [who, make] of [
    [
      'our client, plain server',
      async (options: Partial<ConnectOptions>) => {
        const server = net.createServer((peer) => peer.end('plain'));
        const port = await listening(server);
        const socket = connect({ port, host: '127.0.0.1', ...options });
        return { socket, done: () => server.close() };
      },
    ],
    [
      'plain client, our server',
      async (options: Partial<ConnectOptions>) => {
        const server = createServer(options as ServerOptions);
        server.listen(0, '127.0.0.1');
        const client = net.connect(portOf(server), '127.0.0.1');
        client.end('plain');
        client.resume();
        const [socket] = (await once(server, 'connection')) as [Socket];
        return { socket, done: () => server.close() };
      },
    ],
  ] as const) {
    test(`opportunistic with a plain peer: ${who}`, { timeout: 5000 }, async () => {
      const { socket, done } = await make({});
      let secure = false;
      let read = '';
      socket.on('secure', () => {
        secure = true;
      });
      for await (const data of socket) read += data;
      assert.equal(read, 'plain');
      assert.equal(secure, false);
      assert.equal(socket.encrypted, false);
      assert.equal(socket.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
      assert.deepEqual([socket.role, socket.tep, socket.cipher, socket.transcript], Array(4).fill(undefined));
      assert.throws(() => socket.sessionId, withCode('ERR_TCPCRYPT_NO_SESSION'));
      done();
    });
  }

  test('required: a client refuses a plain server', { timeout: 5000 }, async () => {
    const server = net.createServer();
    const port = await listening(server);
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const socket = connect({ port, host: '127.0.0.1', mode: 'required' });
    socket.write('secret');
    let ready = false;
    socket.on('ready', () => {
      ready = true;
    });
    const [peer] = await accepted;
    peer.write('unasked');
    let got = '';
    peer.on('data', (data) => {
      got += data;
    });
    const [error, refused] = await Promise.all([failing(socket), failing(peer)]);
    assert.equal(error.code, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
    assert.equal((error.cause as TcpcryptError).code, 'ERR_TCPCRYPT_ENO_ABSENT');
    assert.equal(refused.code, 'ECONNRESET');
    assert.deepEqual([got, ready, socket.bytesRead, socket.encrypted], ['', false, 0, false]);
    server.close();
  });

  test('required: a server refuses a plain client', { timeout: 5000 }, async () => {
    const server = createServer({ mode: 'required' }, () => assert.fail('no connection'));
    server.listen(0, '127.0.0.1');
    const client = net.connect(portOf(server), '127.0.0.1');
    client.write('unasked');
    let got = '';
    client.on('data', (data) => {
      got += data;
    });
    const refused = failing(client);
    const [error, socket] = (await once(server, 'clientError')) as [TcpcryptError, Socket];
    assert.equal(error.code, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
    assert.equal((error.cause as TcpcryptError).code, 'ERR_TCPCRYPT_ENO_ABSENT');
    assert.deepEqual([socket.remoteAddress, typeof socket.remotePort], ['127.0.0.1', 'number']);
    assert.equal((await refused).code, 'ECONNRESET');
    assert.deepEqual([got, socket.bytesRead], ['', 0]);
    server.close();
  });

  test('required at both ends', { timeout: 5000 }, async () => {
    const { socket, peer, close } = await connected({ mode: 'required' }, { mode: 'required' });
    assert.deepEqual(socket.sessionId, peer.sessionId);
    await close();
  });

  test('a connection whose key exchange hangs is not announced, and is reset by close()', {
    timeout: 5000,
  }, async () => {
    const { RawPeer } = await import('./raw-peer.js');
    const server = createServer(() => assert.fail('no connection'));
    server.listen(0, '127.0.0.1');
    server.on('clientError', () => assert.fail('not the fault of the client'));
    const peer = await RawPeer.connect(portOf(server));
    while ((await count(server)) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    server.close();
    await closing(server);
    assert.equal(await peer.over, 'ECONNRESET');
  });

  /** Runs in a process of its own: the server, the client, or both, and prints what it saw. */
  const PROGRAM = `
    import { connect, createServer } from ${JSON.stringify(INDEX)};
    const mode = process.argv[1];
    const say = (what) => (error) => process.stdout.write(what + ' ' + error.code + ' ' + error.message + '\\n');
    const server = createServer({ mode }, (peer) => peer.pipe(peer));
    server.on('error', say('server'));
    server.listen(0, '127.0.0.1', () => {
      const socket = connect({ port: server.address().port, host: '127.0.0.1' });
      socket.setEncoding('utf8').on('data', (text) => process.stdout.write(text + ' ' + socket.encrypted + ' ' + socket.plainReason + '\\n'));
      socket.on('close', () => server.close());
      socket.end('echo');
    });
    connect({ port: 9, host: '127.0.0.1', mode: 'required' }).on('error', say('required'));
  `;

  async function outputOf(child: ReturnType<typeof spawn>): Promise<string[]> {
    let text = '';
    child.stdout?.on('data', (data) => {
      text += data;
    });
    const [code] = await once(child, 'close');
    assert.equal(code, 0);
    return text.trim().split('\n').sort();
  }
  const args = (mode: string) => ['--input-type=module', '-e', PROGRAM, mode];
  const stdio = ['ignore', 'pipe', 'inherit'] as ('ignore' | 'pipe' | 'inherit')[];

  test('unprivileged: the same for user nobody', { timeout: 10_000 }, async (t) => {
    const user = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', process.execPath];
    const said = await outputOf(spawn('setpriv', [...user, ...args('required')], { stdio }));
    t.diagnostic(said.join(' | '));
    assert.equal(said[0], 'echo true undefined');
    assert.match(said[1] ?? '', /^required ECONNREFUSED/);
  });

  test('without the kernel part: plain TCP, or refused with the remedy', { timeout: 10_000 }, async () => {
    const opportunistic = await outputOf(
      kernel.spawnOutside(process.execPath, args('opportunistic'), { stdio }),
    );
    assert.equal(opportunistic[0], 'echo false ERR_TCPCRYPT_KERNEL_ABSENT');
    assert.match(opportunistic[1] ?? '', /^required ERR_TCPCRYPT_KERNEL_ABSENT .*run "tcpcrypt up" as root/);
    const required = await outputOf(kernel.spawnOutside(process.execPath, args('required'), { stdio }));
    assert.match(required[1] ?? '', /^server ERR_TCPCRYPT_KERNEL_ABSENT .*run "tcpcrypt up" as root/);
  });

  test('inspect() shows no key, and no session', { timeout: 5000 }, async () => {
    const { socket, peer, server, close } = await connected();
    for (const object of [socket, peer, server]) {
      const text = inspect(object, { depth: 10, showHidden: true, getters: false });
      for (const word of ['masterKey', 'secret', 'aead', 'Session {', 'Channel {']) {
        assert.equal(text.includes(word), false, word);
      }
    }
    await close();
  });

  test('wrong arguments are refused at once', () => {
    const bad: ConnectOptions[] = [
      { port: 0 },
      { port: 65536 },
      { port: 1.5 },
      { port: 80, mode: 'always' as 'required' },
      { port: 80, teps: [] },
      { port: 80, teps: [0x23, 0x23] },
      { port: 80, ciphers: [99 as 1] },
      { port: 80, handshakeTimeout: 0 },
      { port: 80, synTries: 0 },
      { port: 80, localAddress: 'here' },
    ];
    for (const options of bad) assert.throws(() => connect(options), withCode('ERR_TCPCRYPT_ARGUMENT'));
    assert.throws(() => createServer({ mode: 'never' as 'required' }), withCode('ERR_TCPCRYPT_ARGUMENT'));
    assert.throws(() => createServer().listen({ port: -1 }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  });
});

const count = (server: Server): Promise<number> =>
  new Promise((resolve) => server.getConnections((_error, connections) => resolve(connections)));

/** The descriptor of a socket: the newest one of this process that has this local port. */
function fdOf(socket: Socket): number | undefined {
  for (const handle of (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles()) {
    if (
      handle instanceof net.Socket &&
      handle.localPort === socket.localPort &&
      handle.remotePort === socket.remotePort
    )
      return (handle as unknown as { _handle: { fd: number } })._handle.fd;
  }
  return undefined;
}
