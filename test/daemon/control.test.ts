/** What an operator asks a running daemon: status, connections, metrics; and who may ask. */
import assert from 'node:assert/strict';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ConnectionStatus, Status } from '#src/daemon/control/protocol.js';
import type { PathEntry } from '#src/daemon/path-memory.js';
import { DaemonProcess } from '#src/demo/daemons.js';
import type { Host } from '#src/lab/host.js';
import { killGroup } from '#src/lab/netns.js';
import { eventually, Pair, python, skip } from './support/pair.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const NOBODY = 65_534;

describe('asking a daemon', { skip }, () => {
  let pair: Pair;
  let metrics: string;
  before(async () => {
    pair = await Pair.open('neither end');
    metrics = join(pair.lab.directory, 'metrics.sock');
    pair.onAlice = await pair.daemon(pair.alice, ['--metrics', '127.0.0.1:9569']);
    pair.onBob = await pair.daemon(pair.bob, ['--metrics', metrics]);
  });
  after(() => pair?.close());

  const tcpcrypt = (host: Host, ...args: string[]) => host.run(process.execPath, [main, ...args]);
  const status = async (host: Host): Promise<Status> => {
    const { code, stdout, stderr } = await tcpcrypt(host, 'status', '--json');
    assert.equal(code, 0, stderr);
    return JSON.parse(String(stdout)) as Status;
  };
  const connections = async (host: Host, ...filters: string[]) => {
    const { code, stdout, stderr } = await tcpcrypt(host, 'connections', '--json', ...filters);
    assert.equal(code, 0, stderr);
    return JSON.parse(String(stdout)) as (ConnectionStatus & { program?: { name: string; pid: number } })[];
  };
  const socketOf = (host: Host): string =>
    `/run/tcpcrypt/net-${statSync(host.namespacePath, { bigint: true }).ino}.sock`;

  /** A connection with 6 bytes there and 3 back, that stays until `close`. */
  async function standing(port: number) {
    const server = pair.bob.spawn(
      ...python(
        `import socket, sys
c, _ = socket.create_server(('', ${port})).accept()
c.recv(100); c.sendall(b'bob'); c.recv(100)`,
      ),
      { stdio: 'ignore' },
    );
    await pair.bob.waitForListener(port);
    const client = pair.alice.spawn('nc', ['-N', pair.bob.address4, `${port}`], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    client.stdin?.write('alice\n');
    await new Promise((resolve) => client.stdout?.once('data', resolve));
    return { server, client, close: () => client.stdin?.end() };
  }

  test('connections: both ends name the same session ID, their own program, and the bytes', async () => {
    const { client, server, close } = await standing(7801);
    const [onAlice, onBob] = [
      await connections(pair.alice, '--port', '7801'),
      await connections(pair.bob, '--port', '7801'),
    ];
    assert.equal(onAlice.length, 1);
    assert.equal(onBob.length, 1);
    const [alices, bobs] = [onAlice[0], onBob[0]];
    assert.match(alices?.sessionId ?? '', /^[0-9a-f]{66}$/);
    assert.equal(alices?.sessionId, bobs?.sessionId);
    for (const end of [alices, bobs]) {
      assert.equal(end?.state, 'secure');
      assert.equal(end?.tepName, 'TCPCRYPT_ECDHE_Curve25519');
      assert.equal(end?.cipherName, 'AES-128-GCM');
      assert.equal(end?.resumed, false);
    }
    assert.deepEqual([alices?.direction, bobs?.direction], ['outbound', 'inbound']);
    assert.equal(alices?.remote, `${pair.bob.address4}:7801`);
    assert.equal(bobs?.local, `${pair.bob.address4}:7801`);
    assert.deepEqual([alices?.bytesSent, alices?.bytesReceived], [6, 3]);
    assert.deepEqual([bobs?.bytesSent, bobs?.bytesReceived], [3, 6]);
    assert.deepEqual([alices?.program?.pid, bobs?.program?.pid], [client.pid, server.pid]);

    // Filters.
    const session = alices?.sessionId?.slice(0, 10) ?? '';
    for (const [filters, count] of [
      [['--direction', 'inbound'], 0],
      [['--state', 'plain'], 0],
      [['--state', 'secure', '--address', pair.bob.address4, '--program', 'nc', '--session', session], 1],
      [['--program', `${client.pid}`], 1],
      [['--address', '10.69.77.77'], 0],
      [['--address', `::ffff:${pair.bob.address4}`], 1],
      [['--session', session.toUpperCase()], 1],
    ] as const) {
      assert.equal((await connections(pair.alice, ...filters)).length, count, filters.join(' '));
    }
    for (const [option, value] of [
      ['--address', 'bob'],
      ['--address', '10.69.1'],
      ['--session', 'zz'],
      ['--port', '0'],
      ['--program', ''],
    ] as const) {
      const wrong = await tcpcrypt(pair.alice, 'connections', option, value);
      assert.equal(wrong.code, 2, option);
      assert.ok(wrong.stderr.includes(`option '${option} `), wrong.stderr);
    }
    const { stdout } = await tcpcrypt(pair.alice, 'connections');
    const [head, line] = String(stdout).split('\n');
    assert.match(head ?? '', /^DIRECTION +LOCAL +REMOTE +PROGRAM +POLICY +STATE +TEP +CIPHER +RESUMED/);
    assert.match(
      line ?? '',
      new RegExp(`^outbound .*:7801 +nc/${client.pid} .* secure +Curve25519 +AES-128-GCM +no +- +${session}`),
    );
    close();
    await eventually(async () => assert.deepEqual(await connections(pair.alice), []));
  });

  test('connections --watch tells again and again, and Ctrl-C ends it in order', async () => {
    const watch = pair.alice.spawn(
      process.execPath,
      [main, 'connections', '--json', '--watch', '0.1', '--port', '7802'],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = new Promise((resolve) => watch.once('exit', (code) => resolve(code)));
    const seen: number[] = [];
    assert.ok(watch.stdout);
    createInterface({ input: watch.stdout }).on('line', (line) => seen.push(JSON.parse(line).length));
    await eventually(() => assert.ok(seen.length > 1));
    const { close } = await standing(7802);
    await eventually(() => assert.equal(seen.at(-1), 1));
    close();
    await eventually(() => assert.equal(seen.at(-1), 0));
    watch.kill('SIGINT');
    assert.equal(await ended, 0);
  });

  test('status counts what was encrypted, what stayed plain and what failed, with the reasons', async () => {
    const before = await status(pair.alice);
    assert.equal(before.state, 'running');
    assert.equal(before.pid, pair.onAlice?.pid);
    const { close } = await standing(7803);
    const during = await status(pair.alice);
    assert.equal(during.connections.encrypted, 1);
    assert.equal(during.connections.outbound, 1);
    close();
    // Nobody listens: the application hears it, and it is counted by its reason.
    await pair.alice.run('nc', ['-N', pair.bob.address4, '7804']);
    // A host without tcpcrypt: plain, and the reason for it.
    const carol = pair.lab.host('carol');
    const carols = carol.spawn('nc', ['-lN', '7805'], { stdio: ['ignore', 'ignore', 'ignore'] });
    await carol.waitForListener(7805);
    await pair.alice.run('nc', ['-N', carol.address4, '7805'], { input: 'plain' });
    killGroup(carols);
    await eventually(async () => {
      const now = await status(pair.alice);
      assert.equal(now.connections.outbound, 0);
      const more = (counts: 'counters' | 'fallbacks' | 'failures', name: string): number =>
        (now[counts][name] ?? 0) - (before[counts][name] ?? 0);
      assert.equal(more('counters', 'outboundEncrypted'), 1);
      assert.equal(more('counters', 'outboundPlain'), 1);
      assert.equal(more('fallbacks', 'ERR_TCPCRYPT_ENO_ABSENT'), 1);
      assert.equal(more('counters', 'outboundUnreachable'), 1);
      assert.equal(more('failures', 'ECONNREFUSED'), 1);
      assert.equal(now.bytes.outbound.sent - before.bytes.outbound.sent, 'alice\nplain'.length);
      assert.equal(now.bytes.outbound.received - before.bytes.outbound.received, 3);
    });
    // What was learnt of carol, and forgetting it.
    const paths = async (): Promise<PathEntry[]> =>
      JSON.parse(String((await tcpcrypt(pair.alice, 'paths', '--json')).stdout));
    const known = (await paths()).find(({ address }) => address === carol.address4);
    assert.deepEqual([known?.port, known?.last, known?.encryptedBefore], [7805, 'plain', false]);
    assert.ok((known?.quietSeconds ?? 0) > 0);
    const text = String((await tcpcrypt(pair.alice, 'paths')).stdout);
    assert.match(text, new RegExp(`${carol.address4} +7805 +plain +1 +no`));
    assert.equal((await tcpcrypt(pair.alice, 'paths', '--flush', 'carol')).code, 2);
    const flushed = await tcpcrypt(pair.alice, 'paths', '--flush', carol.address4, '--json');
    assert.deepEqual(JSON.parse(String(flushed.stdout)), { forgotten: 1 });
    assert.ok((await paths()).every(({ address }) => address !== carol.address4));
    assert.ok((await paths()).length > 0);
    assert.equal((await tcpcrypt(pair.alice, 'paths', '--flush')).code, 0);
    assert.deepEqual(await paths(), []);
    const { stdout } = await tcpcrypt(pair.alice, 'status');
    assert.match(String(stdout), /^state +running, process \d+/);
    assert.match(String(stdout), /plain, because of\n +ERR_TCPCRYPT_ENO_ABSENT +1/);
  });

  test('reload puts a changed policy in force, and reports mistakes in it', async () => {
    const frank = pair.lab.host('frank');
    const file = join(pair.lab.directory, 'policy.toml');
    writeFileSync(file, 'default = "clear"\n', { mode: 0o644 });
    const daemon = await DaemonProcess.start(frank, pair.kernelPart(frank), ['--policy', file]);
    writeFileSync(file, 'default = "private-or-clear"\n[[rule]]\naction = "block"\nport = 7\n');
    const done = await tcpcrypt(frank, 'reload', '--json');
    assert.equal(done.code, 0, done.stderr);
    assert.equal(JSON.parse(String(done.stdout)).policy, file);
    await daemon.line(({ event }) => event === 'reloaded');
    const blocked = await frank.run('nc', ['-N', pair.bob.address4, '7']);
    assert.equal(blocked.code, 1);
    const now = await status(frank);
    assert.equal(now.policy, file);
    assert.ok((now.refused?.blocked_outbound ?? 0) > 0);
    assert.match(frank.enter('nft', ['list', 'table', 'inet', 'tcpcrypt_policy']), /tcp dport 7 /);
    writeFileSync(file, 'default = "sometimes"\n');
    const refused = await tcpcrypt(frank, 'reload', '--json');
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /policy\.toml:1/);
    const { error } = JSON.parse(String(refused.stdout)) as { error: { code: string; message: string } };
    assert.equal(error.code, 'ERR_TCPCRYPT_POLICY');
    assert.match(error.message, /policy\.toml:1/);
    assert.match(frank.enter('nft', ['list', 'table', 'inet', 'tcpcrypt_policy']), /tcp dport 7 /);
    await daemon.stop();
    assert.equal((await tcpcrypt(frank, 'reload')).code, 1);
  });

  test('metrics for Prometheus, on a loopback port and on a socket; not for other hosts', async () => {
    const { stdout } = await pair.alice.run('curl', ['-sf', 'http://127.0.0.1:9569/metrics']);
    const text = String(stdout);
    assert.match(text, /^tcpcrypt_up 1$/m);
    assert.match(text, /^# TYPE tcpcrypt_events_total counter$/m);
    assert.match(text, /^tcpcrypt_events_total\{event="outboundEncrypted"\} [1-9]/m);
    assert.match(text, /^tcpcrypt_fallbacks_total\{reason="ERR_TCPCRYPT_ENO_ABSENT"\} 1$/m);
    assert.match(text, /^tcpcrypt_bytes_total\{direction="outbound",way="sent"\} [1-9]/m);
    assert.match(text, /^process_open_fds \d/m);
    const bobs = await pair.bob.run('curl', ['-sf', '--unix-socket', metrics, 'http://bob/metrics']);
    assert.match(String(bobs.stdout), /^tcpcrypt_events_total\{event="inboundEncrypted"\} [1-9]/m);
    const refused = await tcpcrypt(pair.alice, 'daemon', '--metrics', '0.0.0.0:9569');
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /loopback/);
  });

  test('other users may not ask, and are told who may', async () => {
    assert.equal(statSync(socketOf(pair.alice)).mode & 0o007, 0);
    const { code, stderr } = await pair.alice.run(process.execPath, [main, 'status'], { uid: NOBODY });
    assert.equal(code, 1);
    assert.match(stderr, /in the group "tcpcrypt"/);
    assert.match(stderr, /ERR_TCPCRYPT_PERMISSION/);
  });

  /** What the control socket answers to `text`, until it closes or `lines` have come. */
  function say(text: string | Buffer, lines = Number.POSITIVE_INFINITY): Promise<string[]> {
    return new Promise((resolve) => {
      const socket = createConnection(socketOf(pair.alice));
      const answers: string[] = [];
      socket.on('error', () => {});
      socket.on('close', () => resolve(answers));
      const input = createInterface({ input: socket });
      input.on('error', () => {});
      input.on('line', (line) => {
        if (answers.push(line) >= lines) socket.destroy();
      });
      socket.write(text);
    });
  }

  test('nonsense on the control socket gets an error, and does no harm', async () => {
    for (const nonsense of ['hello\n', '{}\n', '{"command":"__proto__"}\n', 'null\n', '[]\n', '\n']) {
      const [answer = ''] = await say(nonsense, 1);
      assert.match(answer, /"error":\{"code":"ERR_TCPCRYPT_ARGUMENT"/, nonsense);
    }
    const [answer = ''] = await say('x'.repeat(5000), 1);
    assert.match(answer, /4096/);
    await say(Buffer.alloc(1 << 22, 'x')); // is closed
    // Far too many clients, none of which says anything.
    const idle = Array.from({ length: 100 }, () => createConnection(socketOf(pair.alice)));
    for (const socket of idle) socket.on('error', () => {});
    for (const socket of idle) socket.destroy();
    await eventually(async () => assert.equal((await status(pair.alice)).state, 'running'));
  });

  test('several requests on one connection are answered in order', async () => {
    const [first = '', second = '', third = ''] = await say(
      '{"command":"status"}\n{"command":"connections"}\n{"command":"fly"}\n',
      3,
    );
    assert.equal(JSON.parse(first).result.state, 'running');
    assert.deepEqual(JSON.parse(second), { result: { count: 0 } });
    assert.equal(JSON.parse(third).error.code, 'ERR_TCPCRYPT_ARGUMENT');
  });

  test('without a daemon: exit code 3; a socket that was left behind is no obstacle', async () => {
    const dave = pair.lab.host('dave');
    const asked = await tcpcrypt(dave, 'status', '--json');
    assert.equal(asked.code, 3);
    assert.equal(JSON.parse(String(asked.stdout)).state, 'not running');
    const pins = pair.kernelPart(dave);
    const directory = join(pair.lab.directory, 'sockets');
    const control = join(directory, 'dave.sock');
    const flags = ['--control', control];
    const mask = process.umask(0o077); // as the unit has it
    const killed = await DaemonProcess.start(dave, pins, flags).finally(() => process.umask(mask));
    assert.equal(statSync(directory).mode & 0o777, 0o755, 'the mode of the socket decides who may ask');
    assert.equal((await tcpcrypt(dave, 'status', ...flags)).code, 0);
    await killed.stop('SIGKILL');
    await eventually(() => assert.ok(!existsSync(control)));
    assert.equal((await tcpcrypt(dave, 'status', ...flags)).code, 3);
    // As after a power failure, with nobody to clean up.
    await dave.run(...python(`import socket; socket.socket(socket.AF_UNIX).bind('${control}')`));
    assert.ok(existsSync(control));
    assert.equal((await tcpcrypt(dave, 'status', ...flags)).code, 3);
    const next = await DaemonProcess.start(dave, pins, flags);
    assert.equal((await tcpcrypt(dave, 'status', ...flags)).code, 0);
    await next.stop();
    assert.ok(!existsSync(control));
    // Sockets of other daemons in the usual place, whose guards were killed too: those that nobody listens to are swept.
    const sockets = ['net-1.sock', 'net-2.sock', 'net-3.sock'].map((name) => join('/run/tcpcrypt', name));
    const listening = `
import os, socket, sys, time
old, live, young = [socket.socket(socket.AF_UNIX) for _ in range(3)]
os.makedirs('/run/tcpcrypt', exist_ok=True)
for s, path in zip((old, live, young), sys.argv[1:]): s.bind(path)
live.listen()
for path in sys.argv[1:3]: os.utime(path, (time.time() - 60,) * 2)
print('ready', flush=True)
time.sleep(300)
`;
    for (const sweep of [
      async () => (await DaemonProcess.start(dave, pins, flags)).stop(),
      () => tcpcrypt(dave, 'down', '--pins', '/sys/fs/bpf/none'),
    ]) {
      const others = dave.spawn(...python(listening, ...sockets), { stdio: ['ignore', 'pipe', 'inherit'] });
      try {
        await new Promise((resolve) => others.stdout?.once('data', resolve));
        await sweep();
        assert.deepEqual(sockets.map(existsSync), [false, true, true]);
      } finally {
        for (const path of sockets) rmSync(path, { force: true });
        killGroup(others);
      }
    }
    // What is not a socket of ours is not removed.
    const file = join(pair.lab.directory, 'file');
    writeFileSync(file, 'precious');
    const refused = await tcpcrypt(dave, 'daemon', '--pins', pins, '--control', file);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /is no socket/);
    assert.equal((await tcpcrypt(dave, 'status', '--control', file)).code, 2);
    // Nor is a socket where somebody else answers; the control socket goes then.
    const taken = await tcpcrypt(dave, 'daemon', '--pins', pins, ...flags, '--metrics', metrics);
    assert.equal(taken.code, 2);
    assert.match(taken.stderr, /another program, perhaps a daemon, answers at .*metrics\.sock/);
    assert.ok(existsSync(metrics) && !existsSync(control));
    assert.ok(existsSync(file));
  });

  test('systemd hears when it is ready, and when it stops', async () => {
    const erin = pair.lab.host('erin');
    const path = join(pair.lab.directory, 'notify.sock');
    const listener = erin.spawn(
      ...python(`import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('${path}')
import os; os.chmod('${path}', 0o777)
print('listening', flush=True)
for _ in range(2): print(s.recv(100).decode(), flush=True)`),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const said: string[] = [];
    assert.ok(listener.stdout);
    createInterface({ input: listener.stdout }).on('line', (line) => said.push(line));
    await eventually(() => assert.deepEqual(said, ['listening']));
    const daemon = erin.spawn(process.execPath, [main, 'daemon', '--pins', pair.kernelPart(erin)], {
      stdio: 'ignore',
      env: { ...process.env, NOTIFY_SOCKET: path },
    });
    await eventually(() => assert.deepEqual(said, ['listening', 'READY=1']));
    daemon.kill('SIGTERM');
    await eventually(() => assert.deepEqual(said, ['listening', 'READY=1', 'STOPPING=1']));
  });
});
