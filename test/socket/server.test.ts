/** Listening and connecting: the variants, their errors, and what holds a process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect, createServer, type Server, type Socket } from '#src/index.js';
import { alternate } from '#src/socket/race.js';
import { withCode } from '../support/code.js';
import {
  closing,
  dispose,
  ENCRYPTED,
  failing,
  type Implementation,
  listening,
  NET,
  OURS,
  pair,
} from './implementations.js';
import { INDEX, KernelPart, needsRoot } from './kernel-part.js';

const limit = { timeout: 10_000 };
const portOf = (server: Server): number => server.address()?.port ?? 0;

describe('listening and connecting', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  async function closed(server: Server | net.Server): Promise<void> {
    const over = closing(server);
    server.close();
    await over;
  }

  test('the variants of listen()', limit, async () => {
    const variants: ((server: Server, ready: () => void) => Server)[] = [
      (server, ready) => server.listen(ready),
      (server, ready) => server.listen(0, ready),
      (server, ready) => server.listen(0, '127.0.0.1', ready),
      (server, ready) => server.listen(0, '127.0.0.1', 5, ready),
      (server, ready) => server.listen({ port: 0, host: 'localhost' }, ready),
      (server, ready) => server.listen({ host: '::1', backlog: 3 }, ready),
      (server, ready) => server.once('listening', ready).listen(),
    ];
    for (const listen of variants) {
      const server = createServer();
      await new Promise<void>((resolve) => assert.equal(listen(server, resolve), server));
      assert.ok(portOf(server) > 0);
      assert.equal(server.listening, true);
      assert.throws(() => server.listen(0), withCode('ERR_TCPCRYPT_ARGUMENT'));
      await closed(server);
      assert.equal(server.address(), null);
    }
  });

  test('the kernel is told the backlog', limit, async () => {
    for (const [backlog, expected] of [
      [7, 7],
      [undefined, 511],
    ] as const) {
      const server = createServer().listen({ host: '127.0.0.1', ...(backlog && { backlog }) });
      const ss = spawn('ss', ['-Hltn', 'sport', '=', `:${portOf(server)}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let said = '';
      ss.stdout.on('data', (data) => {
        said += data;
      });
      await once(ss, 'close');
      assert.equal(Number(said.trim().split(/\s+/)[2]), expected);
      await closed(server);
    }
  });

  test('the default is IPv6 and IPv4 at once; ipv6Only is not', limit, async () => {
    const server = createServer((peer) => peer.end(peer.remoteAddress));
    server.listen(0);
    for (const host of ['127.0.0.1', '::1']) {
      const socket = connect(portOf(server), host);
      let said = '';
      socket.on('data', (data) => {
        said += data;
      });
      await closing(socket);
      assert.equal(socket.encrypted, true);
      assert.equal(said, host === '::1' ? '::1' : '::ffff:127.0.0.1');
    }
    await closed(server);
    const only = createServer().listen({ port: 0, host: '::', ipv6Only: true });
    const socket = connect(portOf(only), '127.0.0.1');
    assert.equal((await failing(socket)).code, 'ECONNREFUSED');
    await closed(only);
  });

  test('two servers share a port with reusePort', limit, async () => {
    const first = createServer().listen({ port: 0, host: '127.0.0.1', reusePort: true });
    const port = portOf(first);
    const second = createServer().listen({ port, host: '127.0.0.1', reusePort: true });
    await once(second, 'listening');
    await Promise.all([closed(first), closed(second)]);
  });

  const implementations: Implementation[] = [NET, ENCRYPTED];
  test('EADDRINUSE, and listening again afterwards', limit, async () => {
    const taken = net.createServer();
    const port = await listening(taken);
    const seen = [];
    for (const { createServer } of implementations) {
      const server = createServer();
      server.listen(port, '127.0.0.1');
      const { code, syscall, address, port: where, message } = await failing(server);
      seen.push({ code, syscall, address, where, message });
      assert.ok((await listening(server)) > 0);
      await closed(server);
    }
    assert.deepEqual(seen[1], seen[0]);
    assert.equal(seen[0]?.code, 'EADDRINUSE');
    await closed(taken);
  });

  test('EADDRNOTAVAIL for a foreign address', limit, async () => {
    const seen = [];
    for (const { createServer } of implementations) {
      const server = createServer();
      server.listen(1, '192.0.2.1');
      const { code, syscall, address, port, message } = await failing(server);
      seen.push({ code, syscall, address, port, message });
    }
    assert.deepEqual(seen[1], seen[0]);
  });

  test('EACCES: a low port as user nobody, in a namespace where that needs a privilege', limit, async () => {
    const program = `
      import net from 'node:net';
      import { createServer } from ${JSON.stringify(INDEX)};
      for (const create of [net.createServer, createServer])
        create().on('error', ({ code, syscall, message }) => console.log(code, syscall, message)).listen(80, '127.0.0.1');`;
    const child = spawn(
      'unshare',
      [
        '--net',
        ...['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--bounding-set', '-all'],
        ...[process.execPath, '--input-type=module', '-e', program],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    child.stdout.on('data', (data) => {
      said += data;
    });
    await once(child, 'close');
    const lines = said.trim().split('\n');
    assert.equal(lines.length, 2);
    assert.match(lines[0] ?? '', /^EACCES listen /);
    assert.equal(lines[1], lines[0]);
  });

  test('an AbortSignal ends a server, also one that was aborted before', limit, async () => {
    const controller = new AbortController();
    const server = createServer().listen({ port: 0, signal: controller.signal });
    await once(server, 'listening');
    controller.abort();
    await closing(server);
    const late = createServer().listen({ port: 0, signal: AbortSignal.abort() });
    await closing(late);
    assert.equal(late.listening, false);
  });

  test('close() waits for open connections, and complains when nothing was open', limit, async () => {
    for (const implementation of [NET, ...OURS]) {
      const connection = await pair(implementation);
      const { server, client, peer, port } = connection;
      let over = false;
      server.close((error) => {
        assert.equal(error, undefined);
        over = true;
      });
      const [count] = [await connections(server)];
      assert.deepEqual([server.listening, over, count], [false, false, 1]);
      const refused = connect(port, '127.0.0.1');
      assert.equal((await failing(refused)).code, 'ECONNREFUSED');
      peer.resume();
      client.resume().end('still works');
      await closing(server);
      assert.equal(over, true);
      const error = await new Promise<Error | undefined>((resolve) => server.close(resolve));
      assert.equal((error as NodeJS.ErrnoException).code, 'ERR_SERVER_NOT_RUNNING');
      await dispose(connection);
    }
  });

  test("maxConnections: one too many is dropped, with 'drop'", limit, async () => {
    const seen = [];
    for (const implementation of implementations) {
      const connection = await pair(implementation);
      connection.server.maxConnections = 1;
      const dropped = once(connection.server, 'drop');
      const second = net.connect(connection.port, '127.0.0.1');
      second.on('error', () => {});
      const [{ localAddress, localFamily, remoteAddress }] = await dropped;
      seen.push({ localAddress, localFamily, remoteAddress });
      await closing(second);
      assert.equal(connection.server.maxConnections, 1);
      await dispose(connection);
    }
    assert.deepEqual(seen[1], seen[0]);
  });

  test('200 connections at once', { timeout: 20_000 }, async () => {
    const server = createServer((peer) => peer.pipe(peer)).listen(0, '127.0.0.1');
    const ids = new Set<string>();
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const socket = connect(portOf(server), '127.0.0.1');
        let said = '';
        socket.on('data', (data) => {
          said += data;
        });
        socket.end(`${i}`);
        await closing(socket);
        assert.equal(said, `${i}`);
        ids.add(socket.sessionId.toString('hex'));
      }),
    );
    assert.equal(ids.size, 200);
    await closed(server);
  });

  test('a name with two addresses, of which one listens, either way round', limit, async () => {
    for (const addresses of [
      ['::1', '127.0.0.1'],
      ['127.0.0.1', '::1'],
    ]) {
      const server = createServer((peer) => peer.end()).listen(0, '127.0.0.1');
      const lookup: net.LookupFunction = (_host, _options, callback) =>
        process.nextTick(
          callback,
          null,
          addresses.map((address) => ({ address, family: net.isIP(address) })),
        );
      const seen: unknown[] = [];
      const socket = connect({ port: portOf(server), host: 'two.test', lookup });
      socket.on('lookup', (_error, address) => seen.push(['lookup', address]));
      socket.on('connectionAttempt', (address) => seen.push(['attempt', address]));
      socket.on('connectionAttemptFailed', (address, _port, _family, { code }) => seen.push([code, address]));
      await closing(socket.resume());
      assert.equal(socket.encrypted, true);
      const looked = addresses.map((address) => ['lookup', address]);
      const tried =
        addresses[0] === '::1'
          ? [
              ['attempt', '::1'],
              ['ECONNREFUSED', '::1'],
              ['attempt', '127.0.0.1'],
            ]
          : [['attempt', '127.0.0.1']];
      assert.deepEqual(seen, [...looked, ...tried]);
      await closed(server);
    }
  });

  test('an address that stays silent does not hold up the next one', limit, async () => {
    // A full backlog answers no further SYN.
    const silent = spawn('python3', ['-c', SILENT], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [ready] = await once(silent.stdout, 'data');
    const port = Number(ready);
    const server = createServer((peer) => peer.end()).listen(port, '127.0.0.2');
    const socket = connect({
      port,
      host: 'two.test',
      autoSelectFamilyAttemptTimeout: 50,
      lookup: (_host, _options, callback) =>
        process.nextTick(callback, null, [
          { address: '127.0.0.1', family: 4 },
          { address: '127.0.0.2', family: 4 },
        ]),
    });
    await once(socket, 'ready');
    assert.equal(socket.remoteAddress, '127.0.0.2');
    await closing(socket.resume());

    const patient = connect({ port, host: '127.0.0.1', timeout: 100 });
    await once(patient, 'timeout');
    assert.equal(patient.connecting, true);
    patient.destroy();
    await closing(patient);
    const controller = new AbortController();
    const aborted = connect({ port, host: '127.0.0.1', signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    assert.equal((await failing(aborted)).name, 'AbortError');
    silent.stdin.end();
    await closed(server);
  });

  test('addresses alternate between the families', () => {
    const of = (...addresses: string[]) =>
      addresses.map((address) => ({ address, family: net.isIP(address) }));
    assert.deepEqual(alternate(of('::1', '::2', '10.0.0.1', '::3')), of('::1', '10.0.0.1', '::2', '::3'));
    assert.deepEqual(alternate(of('10.0.0.1', '10.0.0.2')), of('10.0.0.1', '10.0.0.2'));
  });

  test('unref() lets the process end', { timeout: 20_000 }, async () => {
    const program = `
      import { connect, createServer } from ${JSON.stringify(INDEX)};
      const server = createServer((peer) => peer.unref()).listen(0, '127.0.0.1');
      server.unref();
      const socket = connect(server.address().port, '127.0.0.1', () => {
        console.log('ready');
        if (process.argv[1] === 'late') socket.unref();
      });
      if (process.argv[1] === 'early') socket.on('connect', () => setTimeout(() => {}, 50)), socket.unref();`;
    for (const when of ['early', 'late']) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, when], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [code] = await once(child, 'close');
      assert.equal(code, 0, when);
    }
  });

  test('keepAlive in the options reaches the kernel', limit, async () => {
    const server = createServer((peer) => peer.resume()).listen(0, '127.0.0.1');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const socket = connect({ port: portOf(server), host: '127.0.0.1', keepAlive: true });
    await Promise.all([once(socket, 'ready'), accepted]);
    const ss = spawn('ss', ['-Htno', 'dport', '=', `:${portOf(server)}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    ss.stdout.on('data', (data) => {
      said += data;
    });
    await once(ss, 'close');
    assert.match(said, /timer:\(keepalive/);
    socket.end();
    await closing(socket.resume());
    await closed(server);
  });
});

const connections = (server: net.Server): Promise<number> =>
  new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));

/** A listener with a full backlog: it prints its port, and ends with stdin. */
const SILENT = `
import socket, sys
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen(0)
held = []
for _ in range(3):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(listener.getsockname())
    held.append(s)
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
`;
