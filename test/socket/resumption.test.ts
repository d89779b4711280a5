/** Session resumption through the library, on this machine's kernel (RFC 8548 §3.5). */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ConnectOptions,
  connect,
  createServer,
  type Server,
  type ServerOptions,
  SessionCache,
  type Socket,
} from '#src/index.js';
import { INDEX, KernelPart, needsRoot } from './kernel-part.js';

const HOST = '127.0.0.1';

/** An echo server with a cache of its own, and what it has accepted. */
async function serve(options: ServerOptions = {}) {
  const accepted: Socket[] = [];
  const errors: Error[] = [];
  const server = createServer({ resumption: new SessionCache(), ...options }, (socket) => {
    accepted.push(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.on('clientError', (error) => errors.push(error));
  server.listen({ port: 0, host: HOST });
  await once(server, 'listening');
  return { server, accepted, errors, port: (server.address() as AddressInfo).port };
}

interface Seen {
  readonly resumed: boolean;
  readonly id: string;
  readonly transcript: string;
}

const seen = (socket: Socket): Seen => ({
  resumed: socket.resumed,
  id: socket.sessionId.toString('hex'),
  transcript: socket.transcript?.toString('hex') ?? '',
});

/** Connects, checks that both directions work, closes in order. */
async function exchange(port: number, options: Partial<ConnectOptions>): Promise<Seen> {
  const socket = connect({ port, host: HOST, mode: 'required', ...options });
  const message = Buffer.alloc(3000, 'resume');
  socket.end(message);
  const received: Buffer[] = [];
  for await (const chunk of socket) received.push(chunk as Buffer);
  assert.deepEqual(Buffer.concat(received), message);
  return seen(socket);
}

const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));

/** The 9 bytes of A's half in A's SYN. */
const offeredHalf = ({ transcript }: Seen): string => {
  assert.match(transcript, /^4514a3/);
  return transcript.slice(6, 24);
};

describe('resumption by the library', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel?.unload());

  test('TC-1, TC-18, TC-22: the second connection resumes the first; the session ID is another one, and begins with a3', async () => {
    const { server, accepted, port } = await serve();
    const resumption = new SessionCache();
    const connections = [];
    for (let i = 0; i < 6; i++) connections.push(await exchange(port, { resumption }));
    assert.deepEqual(
      connections.map(({ resumed }) => resumed),
      [false, true, true, true, true, true],
    );
    assert.deepEqual(connections, accepted.map(seen));
    assert.equal(new Set(connections.map(({ id }) => id)).size, 6);
    assert.deepEqual(
      connections.map(({ id }) => id.slice(0, 2)),
      ['23', 'a3', 'a3', 'a3', 'a3', 'a3'],
    );
    // SYN: 18 bytes with an 8-byte nonce. SYN-ACK: global suboption, half, and 7 bytes of nonce next to timestamps.
    assert.match(connections[1]?.transcript ?? '', /^4514a3(..){17}451401a3(..){16}$/);
    assert.equal(new Set(connections.slice(1).map(offeredHalf)).size, 5);
    assert.equal(resumption.size, 1);
    await close(server);
  });

  test('by default all connections of a process share a cache', async () => {
    const { server, port } = await serve({ resumption: true });
    assert.equal((await exchange(port, {})).resumed, false);
    assert.equal((await exchange(port, {})).resumed, true);
    await close(server);
  });

  test('TC-17, TC-28: whoever was the server may open the next connection, and keeps its direction of the keys', async () => {
    const [alice, bob] = [new SessionCache(), new SessionCache()];
    const atBob = await serve({ resumption: bob });
    const atAlice = await serve({ resumption: alice });
    assert.equal((await exchange(atBob.port, { resumption: alice })).resumed, false);
    for (let i = 0; i < 3; i++) {
      assert.equal((await exchange(atAlice.port, { resumption: bob })).resumed, true, `bob opens, ${i}`);
      assert.equal((await exchange(atBob.port, { resumption: alice })).resumed, true, `alice opens, ${i}`);
    }
    assert.deepEqual([alice.size, bob.size], [1, 1]);
    await close(atBob.server);
    await close(atAlice.server);
  });

  test('TC-27: of 200 connections at once, several times over, no two use the same secret', async () => {
    const { server, accepted, errors, port } = await serve();
    const resumption = new SessionCache();
    const all: Seen[] = [];
    for (let round = 0; round < 4; round++) {
      all.push(...(await Promise.all(Array.from({ length: 200 }, () => exchange(port, { resumption })))));
    }
    const resumed = all.filter((connection) => connection.resumed);
    assert.ok(resumed.length > 200, `${resumed.length} resumed`);
    assert.equal(new Set(resumed.map(offeredHalf)).size, resumed.length);
    assert.equal(new Set(all.map(({ id }) => id)).size, 800);
    assert.deepEqual(errors, []);
    assert.deepEqual(
      accepted
        .map(seen)
        .map(({ id }) => id)
        .sort(),
      all.map(({ id }) => id).sort(),
    );
    assert.ok(resumption.size <= 64, 'bounded per peer');
    await close(server);
  });

  test('TC-27: both ends open at once, in both directions', async () => {
    const [alice, bob] = [new SessionCache(), new SessionCache()];
    const atBob = await serve({ resumption: bob });
    const atAlice = await serve({ resumption: alice });
    await Promise.all(Array.from({ length: 10 }, () => exchange(atBob.port, { resumption: alice })));
    const ids: string[] = [];
    let resumed = 0;
    for (let round = 0; round < 10; round++) {
      const seen = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          i % 2 === 0
            ? exchange(atBob.port, { resumption: alice })
            : exchange(atAlice.port, { resumption: bob }),
        ),
      );
      resumed += seen.filter((connection) => connection.resumed).length;
      ids.push(...seen.map(({ id }) => id));
    }
    assert.ok(resumed > 20, `${resumed} resumed`);
    assert.equal(new Set(ids).size, ids.length);
    assert.deepEqual([...atBob.errors, ...atAlice.errors], []);
    await close(atBob.server);
    await close(atAlice.server);
  });

  test('TC-4, TC-19: a server that has forgotten: a fresh key exchange, and resumption again after it', async () => {
    const cache = new SessionCache();
    const { server, errors, port } = await serve({ resumption: cache });
    const resumption = new SessionCache();
    await exchange(port, { resumption });
    cache.flush();
    assert.equal(cache.size, 0);
    assert.equal((await exchange(port, { resumption })).resumed, false);
    assert.equal((await exchange(port, { resumption })).resumed, true);
    assert.deepEqual(errors, []);
    await close(server);
  });

  test('a server process that was killed and started again: fresh, then resumed', async () => {
    // An address of its own: meanwhile nobody else takes the port.
    const host = `127.69.${process.pid & 0xff}.1`;
    const source = `
      import { createServer } from ${JSON.stringify(INDEX)};
      const server = createServer((socket) => socket.on('error', () => {}).pipe(socket));
      server.listen(Number(process.argv[1]), ${JSON.stringify(host)}, () => console.log(server.address().port));`;
    const start = async (port: number): Promise<[ChildProcess, number]> => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', source, `${port}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      assert.ok(child.stdout !== null);
      const said = once(createInterface(child.stdout), 'line');
      const ended = once(child, 'exit').then(() => assert.fail('the server ended'));
      const [line] = await Promise.race([said, ended]);
      return [child, Number(line)];
    };
    const resumption = new SessionCache();
    const [first, port] = await start(0);
    assert.equal((await exchange(port, { resumption, host })).resumed, false);
    assert.equal((await exchange(port, { resumption, host })).resumed, true);
    first.kill('SIGKILL');
    await once(first, 'exit');
    const [second] = await start(port);
    assert.equal((await exchange(port, { resumption, host })).resumed, false);
    assert.equal((await exchange(port, { resumption, host })).resumed, true);
    second.kill('SIGKILL');
    await once(second, 'exit');
  });

  test('TC-26, TC-18: attempts that were lost are skipped; the peer looks a few indices ahead', async () => {
    const { server, port } = await serve();
    for (const [lost, resumed] of [
      [1, true],
      [3, true],
      [4, false],
    ] as const) {
      const resumption = new SessionCache();
      await exchange(port, { resumption });
      // The secret is taken out; its SYN never arrives.
      for (let i = 0; i < lost; i++)
        resumption.open([`${HOST} ${port}`], { teps: [0x23], ciphers: [0x0001] });
      assert.equal((await exchange(port, { resumption })).resumed, resumed, `${lost} lost`);
    }
    await close(server);
  });

  test('TC-29: resumption refused, by either end: always fresh, and what is cached stays', async () => {
    const { server, port } = await serve();
    const refusing = await serve({ resumption: false });
    const cache = new SessionCache();
    await exchange(port, { resumption: cache });
    assert.equal((await exchange(port, { resumption: false })).resumed, false);
    assert.equal((await exchange(port, { resumption: { cache, resume: false } })).resumed, false);
    assert.equal((await exchange(port, { resumption: cache })).resumed, true);
    const towards = new SessionCache();
    for (let i = 0; i < 3; i++)
      assert.equal((await exchange(refusing.port, { resumption: towards })).resumed, false);
    await close(server);
    await close(refusing.server);
  });

  test('TC-29: cache nothing: neither of a fresh connection nor of the session that was resumed', async () => {
    const { server, port } = await serve();
    const cache = new SessionCache();
    await exchange(port, { resumption: { cache, keep: false } });
    assert.equal(cache.size, 0);
    await exchange(port, { resumption: cache });
    assert.equal((await exchange(port, { resumption: { cache, keep: false } })).resumed, true);
    assert.equal(cache.size, 0);
    assert.equal((await exchange(port, { resumption: cache })).resumed, false);
    await close(server);
  });

  test('TC-29: flushResumption() on a live connection, at either end', async () => {
    const { server, accepted, port } = await serve();
    const resumption = new SessionCache();
    const live = async (): Promise<Socket> => {
      const socket = connect({ port, host: HOST, resumption });
      await once(socket, 'secure');
      return socket;
    };
    const first = await live();
    first.flushResumption();
    assert.equal(resumption.size, 0);
    const second = await live();
    assert.equal(second.resumed, false);
    const third = await live();
    assert.equal(third.resumed, true);
    third.flushResumption();
    const fourth = await live();
    assert.equal(fourth.resumed, false);
    while (accepted.length < 4) await sleep(5);
    accepted.at(-1)?.flushResumption();
    const fifth = await live();
    assert.equal(fifth.resumed, false, 'the server has forgotten it');
    for (const socket of [first, second, third, fourth, fifth]) socket.destroy();
    await close(server);
  });

  test('a cache forgets after its lifetime, and what it holds is bounded', async () => {
    const { server, port } = await serve();
    const resumption = new SessionCache({ lifetime: 200 });
    await exchange(port, { resumption });
    assert.equal((await exchange(port, { resumption })).resumed, true);
    await sleep(250);
    assert.equal((await exchange(port, { resumption })).resumed, false);
    const small = new SessionCache({ limit: 2 });
    for (let i = 0; i < 5; i++) await exchange(port, { resumption: { cache: small, resume: false } });
    assert.equal(small.size, 2);
    await close(server);
  });

  test('ENO-36: what the kernel agreed to resume is gone: reset at either end, and no plaintext', async (context) => {
    const [atClient, atServer] = [new SessionCache(), new SessionCache()];
    const { server, accepted, errors, port } = await serve({ resumption: atServer });
    await exchange(port, { resumption: atClient });
    const socket = connect({ port, host: HOST, resumption: atClient });
    const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>;
    const failedAtServer = once(server, 'clientError') as Promise<[NodeJS.ErrnoException, Socket]>;
    const told: (string | undefined)[] = [];
    server.once('clientError', (_, { plainReason }: Socket) => told.push(plainReason));
    socket.write('for nobody');
    // The kernel has answered the SYN as soon as it was sent; our end learns of it in the next turn of the loop.
    await once(socket, 'connectionAttempt');
    atServer.flush(); // it keeps what was promised, for a while
    const now = Date.now();
    context.mock.method(Date, 'now', () => now + 200_000);
    atServer.flush();
    const [[error], [errorAtServer]] = await Promise.all([failed, failedAtServer]);
    assert.equal(errorAtServer.code, 'ERR_TCPCRYPT_RESUMPTION_LOST');
    assert.equal(error.code, 'ECONNRESET');
    assert.deepEqual(told, ['ERR_TCPCRYPT_RESUMPTION_LOST']);
    assert.equal(accepted.length, 1);
    assert.equal(errors.length, 1);
    await close(server);
  });

  test('TC-16: the nonce has 8 bytes, where there is room; its length can be set', async () => {
    const usual = await serve();
    const cache = new SessionCache();
    await exchange(usual.port, { resumption: cache });
    // The SYN-ACK has room for 7 next to timestamps.
    assert.match(
      (await exchange(usual.port, { resumption: cache })).transcript,
      /^4514a3(..){17}451401a3(..){16}$/,
    );
    await close(usual.server);
    const { server, port } = await serve({ resumption: new SessionCache({ nonceLength: 2 }) });
    const resumption = new SessionCache({ nonceLength: 0 });
    await exchange(port, { resumption });
    const { transcript } = await exchange(port, { resumption });
    assert.match(transcript, /^450ca3(..){9}450f01a3(..){11}$/);
    await close(server);
  });

  test('a session is resumed only with a TEP and an AEAD that this connection accepts', async () => {
    const cache = new SessionCache();
    const any = await serve({ resumption: cache });
    const strong = await serve({ resumption: cache, ciphers: [0x0002] });
    const resumption = new SessionCache();
    await exchange(any.port, { resumption });
    assert.equal((await exchange(any.port, { resumption, ciphers: [0x0002] })).resumed, false);
    assert.equal((await exchange(any.port, { resumption, teps: [0x21] })).resumed, false);
    assert.equal((await exchange(any.port, { resumption })).resumed, true);
    // The server: two ports with the same cache; a session with AES-128 is none for the stricter one.
    const [taken] = [resumption.open([`${HOST} ${any.port}`], { teps: [0x23], ciphers: [0x0001] })];
    assert.ok(taken !== undefined);
    const moved = new SessionCache();
    moved.keep(`${HOST} ${strong.port}`, taken.attempt.session);
    assert.equal((await exchange(strong.port, { resumption: moved })).resumed, false);
    await close(any.server);
    await close(strong.server);
  });
});
