/** `tcpcrypt listen` and `tcpcrypt connect`, as a user at a shell has them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { listening } from '../socket/implementations.js';
import { KernelPart, needsRoot } from '../socket/kernel-part.js';
import { Tool, tool } from './support/tool.js';

const limit = { timeout: 20_000 };

describe('tcpcrypt listen, tcpcrypt connect', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());
  afterEach(() => {
    for (const { child } of Tool.running) child.kill('SIGKILL');
  });

  test('a conversation, with --json at both ends', limit, async () => {
    const server = tool(['listen', '127.0.0.1', 0, '--json']);
    const client = tool(['connect', '127.0.0.1', await server.port(), '--json']);
    client.child.stdin?.end('from the client');
    server.child.stdin?.end('from the server');
    assert.deepEqual([await server.over, await client.over], [0, 0]);
    assert.equal(server.stdout.toString(), 'from the client');
    assert.equal(client.stdout.toString(), 'from the server');

    const [listen, secureB, endB] = server.events;
    const [secureA, endA] = client.events;
    assert.deepEqual(listen, {
      event: 'listening',
      address: '127.0.0.1',
      port: Number(`${secureB?.local}`.split(':')[1]),
    });
    assert.equal(server.events.length, 3);
    assert.equal(client.events.length, 2);
    const { local, remote, sessionId, ...facts } = secureA ?? {};
    assert.deepEqual(facts, {
      event: 'secure',
      encrypted: true,
      tep: '0x23',
      tepName: 'TCPCRYPT_ECDHE_Curve25519',
      cipher: '0x0001',
      cipherName: secureB?.cipherName,
      role: 'A',
      resumed: false,
      peerAware: false,
      transcript: '450521242345040123',
    });
    assert.match(`${sessionId}`, /^23[0-9a-f]{64}$/);
    assert.deepEqual(secureB, { ...secureA, role: 'B', local: remote, remote: local });
    assert.deepEqual(endA, { ...secureA, event: 'end', bytesReceived: 15, bytesSent: 15, how: 'end' });
    assert.deepEqual(endB, { ...secureB, event: 'end', bytesReceived: 15, bytesSent: 15, how: 'end' });
  });

  test('for people: sentences', limit, async () => {
    const server = tool(['listen', '127.0.0.1', 0, '--echo']);
    const client = tool(['connect', '127.0.0.1', await server.port()]);
    client.child.stdin?.end('echo');
    assert.deepEqual([await server.over, await client.over], [0, 0]);
    assert.equal(client.stdout.toString(), 'echo');
    const [, id] = await new Promise<RegExpExecArray>((resolve) => {
      const match = /session ID (23[0-9a-f]{64})\n/.exec(client.stderr);
      assert.ok(match, client.stderr);
      resolve(match);
    });
    assert.ok(server.stderr.includes(`${id}`));
    assert.match(client.stderr, /^tcpcrypt: encrypted: TCPCRYPT_ECDHE_Curve25519, .*, host A\n/);
    assert.match(server.stderr, /^tcpcrypt: listening on 127\.0\.0\.1 port \d+\n/);
  });

  test('10 MiB of binary data, there and back', limit, async () => {
    const data = randomBytes(10 * 1024 * 1024);
    const server = tool(['listen', '--echo', '127.0.0.1', 0]);
    const client = tool(['connect', '127.0.0.1', await server.port()]);
    client.child.stdin?.end(data);
    assert.equal(await client.over, 0);
    assert.ok(client.stdout.equals(data));
    assert.equal(await server.over, 0);
  });

  test('--keep-open serves one connection after the other; Ctrl-C ends it with 130', limit, async () => {
    const server = tool(['listen', 0, '--echo', '--keep-open', '--json']);
    const port = await server.port();
    for (const host of ['127.0.0.1', '::1']) {
      const client = tool(['connect', host, port]);
      client.child.stdin?.end(host);
      assert.equal(await client.over, 0);
      assert.equal(client.stdout.toString(), host);
    }
    server.child.kill('SIGINT');
    assert.equal(await server.over, 130);
    assert.deepEqual(
      server.events.map(({ event, how }) => how ?? event),
      ['listening', 'secure', 'end', 'secure', 'end'],
    );
    assert.match(`${server.events[3]?.remote}`, /^\[::1\]:\d+$/);
  });

  test('Ctrl-C in the middle resets: 130 here, "reset" and 1 there', limit, async () => {
    const server = tool(['listen', '127.0.0.1', 0, '--json']);
    const client = tool(['connect', '127.0.0.1', await server.port(), '--json']);
    await Promise.all([server.says(/"secure"/), client.says(/"secure"/)]);
    client.child.kill('SIGINT');
    assert.deepEqual([await client.over, await server.over], [130, 1]);
    assert.equal(client.events.at(-1)?.how, 'aborted');
    assert.equal(server.events.at(-1)?.how, 'reset');
  });

  test('a reader of stdout that goes away ends the command without a stack trace', limit, async () => {
    const server = tool(['listen', '127.0.0.1', 0]);
    const client = tool(['connect', '127.0.0.1', await server.port()]);
    await client.says(/encrypted/);
    client.child.stdout?.destroy();
    server.child.stdin?.on('error', () => {});
    const timer = setInterval(() => server.child.stdin?.write('x'.repeat(100_000)), 20);
    assert.equal(await client.over, 1);
    clearInterval(timer);
    assert.doesNotMatch(client.stderr, / at /);
    assert.equal(await server.over, 1);
  });

  test('a plain peer: "plain" at first, refused with --mode required', limit, async () => {
    const plain = net.createServer((socket) => socket.on('error', () => {}).end('plain text'));
    const port = await listening(plain);
    const first = tool(['connect', '127.0.0.1', port, '--json']);
    first.child.stdin?.end();
    assert.equal(await first.over, 0);
    assert.equal(first.stdout.toString(), 'plain text');
    assert.deepEqual(
      first.events.map(({ event, encrypted, plainReason, how }) => [event, encrypted, plainReason, how]),
      [
        ['plain', false, 'ERR_TCPCRYPT_ENO_ABSENT', undefined],
        ['end', false, 'ERR_TCPCRYPT_ENO_ABSENT', 'end'],
      ],
    );
    const second = tool(['connect', '127.0.0.1', port, '--mode', 'required', '--json']);
    second.child.stdin?.end('secret');
    assert.equal(await second.over, 1);
    assert.equal(second.stdout.length, 0);
    assert.deepEqual(
      second.events.map(({ event, how }) => [event, how]),
      [['end', 'ERR_TCPCRYPT_NOT_ENCRYPTED']],
    );
    const third = tool(['connect', '127.0.0.1', port, '--mode', 'required']);
    assert.equal(await third.over, 1);
    assert.match(third.stderr, /encryption is required.*\[ERR_TCPCRYPT_NOT_ENCRYPTED\]/);
    plain.close();
  });

  test('listen --mode required refuses a plain client and goes on waiting', limit, async () => {
    const server = tool(['listen', '127.0.0.1', 0, '--mode', 'required', '--echo']);
    const port = await server.port();
    const plain = net.connect(port, '127.0.0.1');
    plain.on('error', () => {});
    await once(plain, 'close').catch(() => {});
    await server.says(/127\.0\.0\.1:\d+: .*\[ERR_TCPCRYPT_NOT_ENCRYPTED\]/);
    const client = tool(['connect', '127.0.0.1', port]);
    client.child.stdin?.end('ours');
    assert.equal(await client.over, 0);
    assert.equal(client.stdout.toString(), 'ours');
    assert.equal(await server.over, 0);
  });

  test('nobody listens: a clear line, with --json a JSON line, and exit code 1', limit, async () => {
    const server = net.createServer();
    const port = await listening(server);
    server.close();
    const people = tool(['connect', '127.0.0.1', port]);
    const json = tool(['connect', '127.0.0.1', port, '--json']);
    assert.deepEqual([await people.over, await json.over], [1, 1]);
    assert.equal(people.stderr, `tcpcrypt: connect ECONNREFUSED 127.0.0.1:${port} [ECONNREFUSED]\n`);
    assert.deepEqual(
      json.events.map(({ event, how }) => [event, how]),
      [['end', 'ECONNREFUSED']],
    );
  });

  test('the port is taken', limit, async () => {
    const server = net.createServer();
    const port = await listening(server);
    const second = tool(['listen', '127.0.0.1', port]);
    assert.equal(await second.over, 1);
    assert.match(second.stderr, /^tcpcrypt: listen EADDRINUSE: address already in use .* \[EADDRINUSE\]\n$/);
    server.close();
  });

  test('help, and words that make no sense: exit codes 0 and 2', { timeout: 60_000 }, async () => {
    const started = (
      [
        [0, ['--help'], /listen \[options\] \[address\]/],
        [0, ['connect', '--help'], /Exit status/],
        [0, ['listen', '--help'], /\[options\] \[address\] <port>/],
        [2, ['nonsense'], /unknown command 'nonsense'/],
        [2, ['connect', '127.0.0.1'], /missing required argument 'port'/],
        [2, ['connect', '127.0.0.1', 'http'], /"http" is not a TCP port/],
        [2, ['connect', '127.0.0.1', '65536'], /"65536" is not a TCP port/],
        [2, ['connect', '127.0.0.1', '0'], /argument 'port'.*from 1/],
        [2, ['listen'], /missing required argument 'port'/],
        [2, ['listen', 'here'], /"here" is not a TCP port/],
        [2, ['listen', '1', '2', '3'], /too many arguments/],
        [2, ['connect', '127.0.0.1', '9', '--mode', 'maybe'], /opportunistic, required/],
      ] as const
    ).map(([code, args, pattern]) => ({ code, args, pattern, ran: tool(args) }));
    for (const { code, args, pattern, ran } of started) {
      assert.equal(await ran.over, code, args.join(' '));
      assert.match(ran.stdout.toString() + ran.stderr, pattern);
    }
  });
});
