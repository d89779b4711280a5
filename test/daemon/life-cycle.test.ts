/** The daemon comes and goes: connections go on, and nothing stays behind. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));

/** All that could be left on a host. */
const rules = (host: Host): string =>
  [
    ['nft', ['list', 'ruleset']],
    ['iptables-save', []],
    ['ip6tables-save', []],
    ['ip', ['rule']],
    ['ip', ['-6', 'rule']],
    ['ip', ['route', 'show', 'table', 'all', 'type', 'local']],
  ]
    .map(([tool, args]) => host.enter(tool as string, args as string[]))
    .join('\n')
    .replace(/^#.*$/gm, '')
    // An address that the kernel adds to an interface when it likes.
    .replace(/^local fe80:.*\n/gm, '');

describe('the life of a daemon', { skip }, () => {
  let pair: Pair;
  let pristine: string[];
  let port = 7400;
  before(async () => {
    pair = await Pair.open('neither end');
    pair.kernelPart(pair.alice);
    pair.kernelPart(pair.bob);
    pristine = [pair.alice, pair.bob].map(rules);
  });
  after(() => pair?.close());

  const unchanged = (): void => assert.deepEqual([pair.alice, pair.bob].map(rules), pristine);

  /** A new server on bob, i.e. a destination that nobody has heard of. */
  async function destination(): Promise<number> {
    pair.bob.spawn(...python(MANY, 'serve', `${++port}`, 'client'), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
    return port;
  }

  async function connects(): Promise<void> {
    const { stdout, stderr } = await pair.alice.run(
      ...python(MANY, 'call', pair.bob.address4, `${await destination()}`, 'client', '10', '5'),
    );
    assert.deepEqual(JSON.parse(String(stdout)), { done: 10, failed: 0, failures: [] }, stderr);
  }

  /** A connection that stays: Python prints what becomes of it. */
  async function standing() {
    const source = `
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
c.sendall(b'hello')
print(c.recv(100) and 'open', flush=True)
try:
    print('end' if not c.recv(100) else 'data', flush=True)
    c.sendall(b'SECRET' * 100)
except OSError: print('reset', flush=True)
`;
    const to = await destination();
    const client = pair.alice.spawn(...python(source, pair.bob.address4, `${to}`), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    client.stdout?.on('data', (text) => {
      said += text;
    });
    await eventually(() => assert.match(said, /open/));
    return { said: () => said, port: to };
  }

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const end of ['alice', 'bob'] as const)
      test(`${signal} at ${end}: its connections are reset, new ones are plain, no rule stays`, async () => {
        const daemons = { alice: await pair.daemon(pair.alice), bob: await pair.daemon(pair.bob) };
        const capture = await Capture.start(pair.lab, pair.alice);
        const connection = await standing();
        await daemons[end].stop(signal);
        await eventually(() => assert.equal(connection.said(), 'open\nreset\n'));
        const wire = Buffer.concat((await capture.stop()).map(({ payload }) => payload));
        assert.ok(!wire.includes('SECRET') && !wire.includes('hello'));
        await connects();
        const other = end === 'alice' ? 'bob' : 'alice';
        await daemons[other].stop();
        await eventually(unchanged);
        await connects();
      });
  }

  test('a daemon can be started again, and encrypts again', async () => {
    for (let i = 0; i < 2; i++) {
      const [onAlice, onBob] = [await pair.daemon(pair.alice), await pair.daemon(pair.bob)];
      await connects();
      await onAlice.line(({ event }) => event === 'secure');
      assert.equal(await onAlice.stop(), 0);
      assert.equal(await onBob.stop(), 0);
      unchanged();
    }
  });

  test('what is relayed may end in order when the daemon is asked to stop', async () => {
    const [onAlice, onBob] = [
      await pair.daemon(pair.alice, ['--drain', '20']),
      await pair.daemon(pair.bob, ['--drain', '20']),
    ];
    const to = ++port;
    const server = pair.bob.spawn('nc', ['-lN', `${to}`], { stdio: ['pipe', 'pipe', 'ignore'] });
    const heard: Buffer[] = [];
    server.stdout?.on('data', (data) => heard.push(data));
    await pair.bob.waitForListener(to);
    const client = pair.alice.spawn('nc', ['-N', pair.bob.address4, `${to}`], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    client.stdin?.write('before\n');
    await eventually(() => assert.equal(String(Buffer.concat(heard)), 'before\n'));
    const stopped = [onAlice.stop(), onBob.stop()];
    await onAlice.line(({ event }) => event === 'stopping');
    await onBob.line(({ event }) => event === 'stopping');
    await connects();
    client.stdin?.end('after\n');
    await eventually(() => assert.equal(String(Buffer.concat(heard)), 'before\nafter\n'));
    assert.deepEqual(await Promise.all(stopped), [0, 0]);
    const end = await onBob.line(({ event, remote }) => event === 'end' && remote !== undefined);
    assert.equal(end.how, 'end');
    unchanged();
  });

  test('a second daemon on the same host says so, and leaves the first alone', async () => {
    const [onAlice, onBob] = [await pair.daemon(pair.alice), await pair.daemon(pair.bob)];
    const pins = pair.kernelPart(pair.alice);
    const { code, stderr } = await pair.alice.run(process.execPath, [main, 'daemon', '--pins', pins]);
    assert.equal(code, 1);
    assert.match(stderr, /^tcpcrypt: a daemon runs already .*\n\[ERR_TCPCRYPT_RUNNING\]\n$/);
    assert.ok(onAlice.running);
    await connects();
    await onAlice.line(({ event }) => event === 'secure');
    await onAlice.stop();
    await onBob.stop();
    unchanged();
  });

  test('without "tcpcrypt up" it says so, and changes nothing', async () => {
    const carol = pair.lab.host('carol');
    const before = rules(carol);
    const { code, stderr } = await carol.run(process.execPath, [main, 'daemon']);
    assert.equal(code, 1);
    assert.match(stderr, /tcpcrypt up/);
    assert.match(stderr, /ERR_TCPCRYPT_KERNEL_ABSENT/);
    assert.equal(rules(carol), before);
  });

  test('other local programs that find the daemon’s ports are reset', async () => {
    const daemons: [Host, DaemonProcess][] = [
      [pair.alice, await pair.daemon(pair.alice)],
      [pair.bob, await pair.daemon(pair.bob)],
    ];
    const source = `
import socket, sys
for address, port in ((a, p) for a in ('127.0.0.1', '::1') for p in sys.argv[1:]):
    try:
        c = socket.create_connection((address, int(port)), timeout=5)
        c.sendall(b'hello')
        print(c.recv(10))
    except ConnectionResetError: print('reset')
`;
    for (const [host, daemon] of daemons) {
      const ports = host
        .enter('ss', ['-Hltnp'])
        .split('\n')
        .filter((line) => line.includes(`pid=${daemon.pid},`))
        .map((line) => /:(\d+) /.exec(line)?.[1] ?? '');
      assert.equal(ports.length, 6);
      const { stdout } = await host.run(...python(source, ...new Set(ports)));
      assert.equal(String(stdout), 'reset\n'.repeat(6));
      const { relayed, held, uninvited } = await daemon.status();
      assert.deepEqual([relayed, held, uninvited], [0, 0, 6]);
    }
    await connects();
    for (const [, daemon] of daemons) await daemon.stop();
  });
});

describe('programs that speak tcpcrypt themselves, on hosts with a daemon', { skip }, () => {
  let pair: Pair;
  let port = 7500;
  before(async () => {
    pair = await Pair.open('both ends');
  });
  after(() => pair?.close());

  interface Report {
    readonly event: string;
    readonly encrypted?: boolean;
    readonly sessionId?: string;
  }
  const reports = (stderr: string): Report[] =>
    stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Report);

  /** Says "ping" to an echo. */
  async function exchange(programs: { server: 'library' | 'plain'; client: 'library' | 'plain' }) {
    pair.forget();
    const to = ++port;
    const server =
      programs.server === 'library'
        ? pair.bob.run(process.execPath, [main, 'listen', '--json', '--echo', `${to}`])
        : pair.bob.run(...python(ECHO, `${to}`));
    await pair.bob.waitForListener(to);
    const client =
      programs.client === 'library'
        ? await pair.alice.run(process.execPath, [main, 'connect', '--json', pair.bob.address4, `${to}`], {
            input: 'ping',
          })
        : await pair.alice.run('nc', ['-N', pair.bob.address4, `${to}`], { input: 'ping' });
    assert.equal(String(client.stdout), 'ping', client.stderr);
    const served = await server;
    assert.equal(served.code, 0, served.stderr);
    const ids = (daemon: DaemonProcess | undefined): (string | undefined)[] =>
      (daemon?.lines ?? []).filter(({ event }) => event === 'secure').map(({ sessionId }) => sessionId);
    const id = (stderr: string): (string | undefined)[] =>
      reports(stderr)
        .filter(({ event }) => event === 'secure')
        .map(({ sessionId }) => sessionId);
    return {
      server: id(served.stderr),
      client: id(client.stderr),
      onAlice: ids(pair.onAlice),
      onBob: ids(pair.onBob),
    };
  }

  const ECHO = `
import socket, sys
connection, _ = socket.create_server(('', int(sys.argv[1]))).accept()
while data := connection.recv(65536): connection.sendall(data)
connection.close()
`;

  test('library to library: the daemons have no part in it', async () => {
    const { server, client, onAlice, onBob } = await exchange({ server: 'library', client: 'library' });
    assert.equal(client.length, 1);
    assert.deepEqual(server, client);
    assert.deepEqual([onAlice, onBob], [[], []]);
  });

  test('library to an unmodified server: encrypted once, by its host’s daemon', async () => {
    const { client, onAlice, onBob } = await exchange({ server: 'plain', client: 'library' });
    assert.equal(client.length, 1);
    assert.deepEqual(onBob, client);
    assert.deepEqual(onAlice, []);
  });

  test('an unmodified client to a library server: encrypted once, by the client’s daemon', async () => {
    const { server, onAlice, onBob } = await exchange({ server: 'library', client: 'plain' });
    assert.equal(server.length, 1);
    assert.deepEqual(onAlice, server);
    assert.deepEqual(onBob, []);
  });
});
