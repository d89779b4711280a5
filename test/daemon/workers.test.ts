/** `--workers`: the load is shared by hosts, nothing else is different, and who dies takes only its own along. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ask } from '#src/daemon/control/client.js';
import type { ConnectionStatus, Status } from '#src/daemon/control/protocol.js';
import type { DaemonProcess, LogLine } from '#src/demo/daemons.js';
import { shareOf } from '#src/kernel/shares.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { rulesOf } from './support/rules.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const PORT = 7600;
const FLAGS = ['--workers', '2', '--user', 'nobody', '--metrics', '127.0.0.1:9569'];
const NOBODY = 65_534;
/** CAP_NET_BIND_SERVICE and CAP_NET_ADMIN: bits 10 and 12. */
const KEPT = 0x1400n;

/**
 * `serve PORT` echoes; `call PORT COUNT FROM,… TO,…` makes COUNT connections from each to each address, one after the
 * other; `stand PORT FROM,… TO,…` one for each pair at once, and for each line on its input tells who still lives.
 */
const PROGRAM = `
import json, socket, sys, threading
mode, port, *arguments = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]

def pairs(sources, destinations):
    return [(source, destination) for source in sources.split(',') for destination in destinations.split(',')
            if (':' in source) == (':' in destination)]

def connect(source, destination):
    return socket.create_connection((destination, port), timeout=20, source_address=(source, 0))

def exchange(connection):
    connection.sendall(b'SECRET')
    return connection.recv(6) == b'SECRET'

def serve():
    listener = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    def echo(connection):
        with connection:
            try:
                while data := connection.recv(65536): connection.sendall(data)
            except OSError: pass
    while True: threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()

if mode == 'serve': serve()
elif mode == 'call':
    count, sources, destinations = arguments
    for pair in pairs(sources, destinations):
        for _ in range(int(count)):
            with connect(*pair) as connection:
                assert exchange(connection)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b''
else:
    connections = {' '.join(pair): connect(*pair) for pair in pairs(*arguments)}
    def state(connection):
        try: return 'lives' if exchange(connection) else 'end'
        except OSError as error: return type(error).__name__
    while True:
        print(json.dumps({name: state(connection) for name, connection in connections.items()}), flush=True)
        if not sys.stdin.readline(): break
`;

const addresses4 = (host: 'alice' | 'bob', count: number): string[] =>
  Array.from({ length: count }, (_, i) => `10.69.${host === 'alice' ? 1 : 2}.${i + 1}`);
const addresses6 = (host: 'alice' | 'bob', count: number): string[] =>
  Array.from({ length: count }, (_, i) => `fd69:${host === 'alice' ? 1 : 2}::${i + 1}`);
const ALICE = [...addresses4('alice', 4), ...addresses6('alice', 2)];
const BOB = [...addresses4('bob', 2), ...addresses6('bob', 2)];
/** 4 × 2 by IPv4, 2 × 2 by IPv6. */
const PAIRS = 12;

describe('two workers', { skip }, () => {
  let pair: Pair;
  let untouched: string;
  before(async () => {
    pair = await Pair.open('neither end');
    for (const [host, addresses] of [
      [pair.alice, ALICE],
      [pair.bob, BOB],
    ] as const) {
      for (const address of addresses.filter((one) => one !== host.address4 && one !== host.address6))
        host.enter('ip', [
          ...['address', 'add', `${address}/${address.includes(':') ? 64 : 24}`, 'dev', 'eth0'],
          ...(address.includes(':') ? ['nodad'] : []),
        ]);
      host.spawn(...python(PROGRAM, 'serve', `${PORT}`), { stdio: 'ignore' });
      await host.waitForListener(PORT);
    }
    untouched = rulesOf(pair.alice);
    pair.onAlice = await pair.daemon(pair.alice, FLAGS);
    pair.onBob = await pair.daemon(pair.bob, FLAGS);
  });
  after(() => pair?.close());
  beforeEach(() => pair.forget());

  const secure = (daemon: DaemonProcess | undefined): LogLine[] =>
    (daemon?.lines ?? []).filter(({ event }) => event === 'secure');
  const hostOf = (end = ''): string => end.replace(/^\[?(.*?)\]?:\d+$/, '$1');
  const control = (host: Host): string =>
    `/run/tcpcrypt/net-${statSync(host.namespacePath, { bigint: true }).ino}.sock`;
  const statusOf = async (host: Host): Promise<Status> =>
    (await ask(control(host), 'status')).result as Status;
  const workersOf = async (host: Host): Promise<number[]> =>
    ((await statusOf(host)).workers ?? []).map(({ pid }) => pid);

  async function call(from: Host, sources: readonly string[], to: readonly string[], count: number) {
    const { code, stderr } = await from.run(
      ...python(PROGRAM, 'call', `${PORT}`, `${count}`, sources.join(), to.join()),
      { timeoutMs: 40_000 },
    );
    assert.equal(code, 0, stderr);
  }

  /** Connections that stay, and a question that tells what has become of them. */
  async function stand(): Promise<{ ask: () => Promise<Record<string, string>>; end: () => Promise<void> }> {
    const client: ChildProcess = pair.alice.spawn(
      ...python(PROGRAM, 'stand', `${PORT}`, ALICE.join(), BOB.join()),
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let said = '';
    client.stdout?.on('data', (text) => {
      said += text;
    });
    const next = async (count: number): Promise<Record<string, string>> => {
      await eventually(() => assert.equal(said.split('\n').length, count + 1));
      return JSON.parse(said.split('\n')[count - 1] ?? '') as Record<string, string>;
    };
    let count = 1;
    assert.deepEqual(new Set(Object.values(await next(count))), new Set(['lives']));
    return {
      ask: () => {
        client.stdin?.write('\n');
        return next(++count);
      },
      end: async () => {
        const gone = new Promise((resolve) => client.once('exit', resolve));
        client.stdin?.end();
        await gone;
      },
    };
  }

  test('TC-17: the other host may open: the worker that it meets knows the session', async () => {
    for (const at of [0, 1]) {
      pair.forget();
      await call(pair.alice, ALICE.slice(at, at + 1), BOB.slice(at, at + 1), 1);
      await call(pair.bob, BOB.slice(at, at + 1), ALICE.slice(at, at + 1), 2);
      await eventually(() => assert.equal(secure(pair.onBob).length, 3));
      assert.deepEqual(
        secure(pair.onBob).map(({ worker, resumed }) => [worker, resumed]),
        [
          [1 - at, false],
          [1 - at, true],
          [1 - at, true],
        ],
      );
    }
    pair.forget();
  });

  test('TC-22: both carry connections, by IPv4 and IPv6; each host meets one of them, which resumes its sessions', async () => {
    const count = 5;
    await call(pair.alice, ALICE, BOB, count);
    const total = PAIRS * count;
    await eventually(() => {
      for (const daemon of [pair.onAlice, pair.onBob]) assert.equal(secure(daemon).length, total);
    });
    for (const daemon of [pair.onAlice, pair.onBob]) {
      const lines = secure(daemon);
      for (const { worker, remote } of lines) assert.equal(worker, shareOf(hostOf(remote), 2), remote);
      assert.deepEqual(new Set(lines.map(({ worker }) => worker)), new Set([0, 1]));
    }
    const ids = [pair.onAlice, pair.onBob].map((daemon) =>
      secure(daemon)
        .map(({ sessionId }) => sessionId)
        .sort(),
    );
    assert.deepEqual(ids[0], ids[1]);
    const fresh = secure(pair.onAlice).filter(({ resumed }) => resumed !== true).length;
    assert.ok(fresh <= PAIRS, `${fresh} of ${total} were not resumed`);
  });

  test('status, connections, paths, metrics and reload are about all of them', async () => {
    const standing = await stand();
    const { result, items } = await ask(control(pair.alice), 'connections');
    const connections = items as ConnectionStatus[];
    assert.deepEqual(result, { count: PAIRS });
    assert.equal(new Set(connections.map(({ connection }) => connection)).size, PAIRS);
    assert.ok(connections.every(({ state, bytesSent }) => state === 'secure' && bytesSent === 6));
    const status = await statusOf(pair.alice);
    assert.equal(status.state, 'running', status.problems.join());
    assert.equal(status.pid, pair.onAlice?.pid);
    assert.equal(status.connections.encrypted, PAIRS);
    assert.ok((status.counters.outboundEncrypted ?? 0) >= PAIRS * 6 + 2);
    assert.deepEqual(
      status.workers?.map(({ worker, connections }) => [worker, connections]),
      [
        [0, PAIRS / 2],
        [1, PAIRS / 2],
      ],
    );
    const paths = (await ask(control(pair.alice), 'paths')).items as { address?: string }[];
    assert.deepEqual(paths.map(({ address }) => address).sort(), [...BOB].sort());
    const { stdout } = await pair.alice.run('curl', ['-s', 'http://127.0.0.1:9569/metrics']);
    assert.match(String(stdout), new RegExp(`^tcpcrypt_connections\\{state="encrypted"\\} ${PAIRS}$`, 'm'));
    assert.deepEqual((await ask(control(pair.alice), 'reload')).result, { policy: 'built-in', rules: 0 });
    assert.deepEqual((await ask(control(pair.alice), 'flush-paths')).result, { forgotten: BOB.length });
    assert.ok(Object.values(await standing.ask()).every((state) => state === 'lives'));
    await standing.end();
  });

  test('each is an ordinary user with two capabilities, in all threads, and closed to others', async () => {
    for (const pid of [pair.onAlice?.pid, ...(await workersOf(pair.alice))]) {
      assert.equal(statSync(`/proc/${pid}/mem`).uid, 0);
      const tasks = readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}/status`);
      assert.ok(tasks.length > 1);
      for (const task of tasks) {
        const facts = Object.fromEntries(
          readFileSync(task, 'utf8')
            .split('\n')
            .map((line) => line.split(/:\s+/) as [string, string]),
        );
        assert.equal(facts.Uid, [NOBODY, NOBODY, NOBODY, NOBODY].join('\t'));
        assert.equal(facts.Groups?.trim() ?? '', '');
        assert.equal(facts.NoNewPrivs, '1');
        // Of the main process, the first thread alone has any.
        for (const set of ['CapEff', 'CapPrm', 'CapInh', 'CapAmb'])
          assert.equal(BigInt(`0x${facts[set]}`) & ~KEPT, 0n, set);
        if (task.includes(`/task/${pid}/`)) assert.equal(BigInt(`0x${facts.CapEff}`), KEPT);
      }
    }
  });

  test('tcpcrypt status names them', async () => {
    const { stdout } = await pair.alice.run(process.execPath, [main, 'status']);
    const [first, second] = await workersOf(pair.alice);
    assert.match(String(stdout), new RegExp(`^worker 0 +process ${first}, 0 connections, `, 'm'));
    assert.match(String(stdout), new RegExp(`^worker 1 +process ${second}, 0 connections, `, 'm'));
  });

  test('one that hangs is named, and the others’ figures are still told', async () => {
    const [, hanging = 0] = await workersOf(pair.alice);
    process.kill(hanging, 'SIGSTOP');
    try {
      const status = await statusOf(pair.alice);
      assert.equal(status.state, 'degraded');
      assert.match(status.problems.join(), new RegExp(`worker 1 \\(process ${hanging}\\) does not answer`));
    } finally {
      process.kill(hanging, 'SIGCONT');
    }
    await eventually(async () => assert.equal((await statusOf(pair.alice)).state, 'running'));
  });

  for (const [end, far] of [
    ['alice', 'bob'],
    ['bob', 'alice'],
  ] as const)
    test(`kill -9 of one at ${end}: its connections are reset, the others go on, another one takes its place`, async () => {
      const host = pair[end];
      const daemon = end === 'alice' ? pair.onAlice : pair.onBob;
      const standing = await stand();
      const counted = (await statusOf(host)).counters;
      const workers = await workersOf(host);
      const capture = await Capture.start(pair.lab, pair.alice);
      process.kill(workers[0] ?? 0, 'SIGKILL');
      await daemon?.line(({ event }) => event === 'worker-replaced');
      for (const [ends, state] of Object.entries(await standing.ask())) {
        const [source = '', destination = ''] = ends.split(' ');
        const lost = shareOf(end === 'alice' ? destination : source, 2) === 0;
        assert.equal(state, lost ? 'ConnectionResetError' : 'lives', `${ends}, far host at ${far}`);
      }
      pair.forget();
      await call(pair.alice, ALICE, BOB, 1);
      await eventually(() => {
        for (const one of [pair.onAlice, pair.onBob]) assert.equal(secure(one).length, PAIRS);
      });
      const wire = Buffer.concat((await capture.stop()).map(({ payload }) => payload));
      assert.ok(wire.length > 0 && !wire.includes('SECRET'));
      const status = await statusOf(host);
      assert.equal(status.state, 'running', status.problems.join());
      assert.equal(status.workers?.[1]?.pid, workers[1]);
      assert.notEqual(status.workers?.[0]?.pid, workers[0]);
      assert.equal(status.counters.workersLost, 1);
      for (const [counter, count] of Object.entries(counted))
        assert.ok((status.counters[counter] ?? 0) >= count, counter);
      await standing.end();
    });

  test('our queue rules are made anew, for all of them', async () => {
    for (const tool of ['iptables', 'ip6tables']) {
      const [, rule = ''] =
        /^-A (OUTPUT .*tcpcrypt.*)$/m.exec(pair.alice.enter(tool, ['-t', 'raw', '-S', 'OUTPUT'])) ?? [];
      pair.alice.enter(tool, ['-w', '-t', 'raw', '-D', ...rule.split(' ')]);
    }
    await eventually(() => {
      for (const tool of ['iptables', 'ip6tables'])
        assert.equal(pair.alice.enter(tool, ['-t', 'raw', '-S', 'OUTPUT']).match(/NFQUEUE/g)?.length, 2);
    });
    await call(pair.alice, ALICE, BOB, 1);
    await eventually(() => assert.equal(secure(pair.onAlice).length, PAIRS));
  });

  test('a signal for the whole group: what is relayed may end in order, and no rule and no process stays', async () => {
    const workers = await workersOf(pair.alice);
    await call(pair.alice, ALICE, BOB, 1);
    for (const pid of workers) process.kill(pid, 'SIGTERM');
    assert.equal(await pair.onAlice?.stop(), 0);
    assert.equal(rulesOf(pair.alice), untouched);
    for (const pid of workers) assert.ok(!existsSync(`/proc/${pid}`));
    assert.ok(!existsSync(control(pair.alice)));
    await pair.onAlice?.line(({ event }) => event === 'stopped');
    assert.equal(pair.onAlice?.lines.filter(({ event }) => event === 'worker-ended').length, 0);
  });

  test('kill -9 of the main process ends the workers, also one that hangs, and no rule stays', async () => {
    pair.onAlice = await pair.daemon(pair.alice, FLAGS);
    const workers = await workersOf(pair.alice);
    process.kill(workers[0] ?? 0, 'SIGSTOP');
    await pair.onAlice.stop('SIGKILL');
    await eventually(() => {
      for (const pid of workers) assert.ok(!existsSync(`/proc/${pid}`));
      assert.equal(rulesOf(pair.alice), untouched);
    });
    await call(pair.alice, ALICE, BOB, 1);
  });

  test('a number that cannot be, a queue that is taken, files that its user cannot read: clear errors, and nothing is left', async () => {
    const pins = pair.kernelPart(pair.alice);
    const run = (program: string, ...flags: string[]) =>
      pair.alice.run(process.execPath, [program, 'daemon', '--pins', pins, '--user', 'nobody', ...flags], {
        timeoutMs: 30_000,
      });
    assert.match((await run(main, '--workers', '3')).stderr, /1, 2, 4, 8, 16 or "auto"/);

    const queue = 4711;
    const holder = pair.alice.spawn(process.execPath, ['--input-type=module', '-e', holdQueue(queue + 1)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => holder.stdout?.once('data', resolve));
    const taken = await run(main, '--workers', '2', '--queue', `${queue}`);
    assert.notEqual(taken.code, 0);
    assert.match(taken.stderr, new RegExp(`NFQUEUE number ${queue + 1} is in use by process`));
    holder.stdin?.end();

    const closed = join(pair.lab.directory, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const root = fileURLToPath(new URL('../../../', import.meta.url));
    for (const name of ['dist', 'package.json'])
      cpSync(join(root, name), join(closed, name), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(closed, 'node_modules'));
    const unreadable = await run(join(closed, 'dist/cli/main.js'), '--workers', '2');
    assert.notEqual(unreadable.code, 0);
    assert.match(unreadable.stderr, /nobody must be able to run .* or --workers 1/);
    assert.equal(rulesOf(pair.alice), untouched);
  });
});

/** Has the queue until its input ends. */
const holdQueue = (queue: number): string => `
import { NfQueue } from '${import.meta.resolve('#src/kernel/nfqueue.js')}';
const held = NfQueue.open({ queue: ${queue}, onPacket: () => {}, onError: () => {} });
console.log('held');
process.stdin.on('end', () => held.close()).resume();`;
