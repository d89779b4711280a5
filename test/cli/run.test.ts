/** `tcpcrypt run`: alice runs commands, bob has the daemon, carol has none. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { type CapturedSegment, findOption, isSyn } from '#src/lab/pcap.js';
import { eventually, Pair, python, skip } from '../daemon/support/pair.js';
import { GREET, greet, policyFile } from '../daemon/support/policies.js';
import { MANY } from '../daemon/support/probe.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const hasEno = ({ options }: CapturedSegment): boolean => findOption(options, 69) !== undefined;
const PORT = 7900;

const rulesOf = (host: Host): string =>
  ['nft list ruleset', 'iptables-save', 'ip6tables-save', 'ip rule', 'ip -6 rule']
    .map((command) => host.enter('sh', ['-c', command]))
    .join('\n')
    .replace(/^#.*$/gm, '')
    .trim();
const groupsOf = (host: Host): string[] =>
  readdirSync(host.cgroup).filter((name) => name.startsWith('tcpcrypt-run-'));

const pinsOfRuns = (): string[] =>
  existsSync('/sys/fs/bpf/tcpcrypt')
    ? readdirSync('/sys/fs/bpf/tcpcrypt').filter((name) => name.startsWith('tcpcrypt-run-'))
    : [];

/** The command line of `tcpcrypt run`. */
const run = (flags: readonly string[], command: string, args: readonly string[]): [string, string[]] => [
  process.execPath,
  [main, 'run', ...flags, '--', command, ...args],
];

/** `ADDRESS PORT`: the session ID of one connection. */
const ID = `
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
c.sendall(b'hello\\n')
c.makefile('rb').readline()
print(c.getsockopt(socket.IPPROTO_TCP, 1027, 64).hex())
`;

/** The shells that wait to clean up after a command. */
const shellsOf = (group: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words[0] === '/bin/sh' && words[2]?.includes(`${group}/command`);
      } catch {
        return false;
      }
    })
    .map(Number);

async function serve(host: Host): Promise<void> {
  host.spawn(...python(MANY, 'serve', `${PORT}`, 'client', '6'), { stdio: 'ignore' });
  await host.waitForListener(PORT);
}

describe('tcpcrypt run, on a host without daemon and kernel part', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  let pristine: string;
  before(async () => {
    pair = await Pair.open('the server only');
    carol = pair.lab.host('carol');
    pristine = rulesOf(pair.alice);
    await serve(pair.bob);
    await serve(carol);
  });
  after(() => pair?.close());

  const cleaned = (): Promise<void> =>
    eventually(() => {
      assert.equal(rulesOf(pair.alice), pristine);
      assert.deepEqual(groupsOf(pair.alice), []);
    }, 30_000);

  /** Runs GREET; what it saw, and the SYNs of alice. */
  async function greetUnder(
    flags: readonly string[],
    host: Host,
    family: 'address4' | 'address6' = 'address4',
  ) {
    const capture = await Capture.start(pair.lab, pair.alice);
    const { stdout, stderr } = await pair.alice.run(
      ...run(flags, ...python(GREET, host[family], `${PORT}`, '8')),
      { timeoutMs: 40_000 },
    );
    const segments = await capture.stop();
    return { saw: `${stdout}${stderr}`, asked: segments.filter(isSyn).map(hasEno), segments };
  }

  test('the command is encrypted, the rest of the host is not touched, and nothing stays', async () => {
    pair.forget();
    const { saw, segments } = await greetUnder([], pair.bob);
    assert.equal(saw, 'answered');
    assert.ok(!segments.some(({ payload }) => Buffer.from(payload).includes('hello')));
    await pair.onBob?.line(({ event }) => event === 'secure');
    await cleaned();

    const look = 'cat /proc/self/cgroup; ls /sys/fs/bpf/tcpcrypt';
    const { stdout } = await pair.alice.run(...run([], 'sh', ['-c', look]), { timeoutMs: 40_000 });
    const [group = ''] = /tcpcrypt-run-\d+/.exec(String(stdout)) ?? [];
    assert.ok(group !== '' && String(stdout).split('\n').includes(group), `${stdout}`);
    await cleaned();
    assert.ok(!pinsOfRuns().includes(group));
  });

  test('meanwhile others are plain; children of the command are encrypted', async () => {
    pair.forget();
    const source = `
import subprocess, sys
print('started', flush=True)
sys.stdin.readline()
subprocess.run([sys.executable, '-c', ${JSON.stringify(GREET)}, *sys.argv[1:]])
`;
    const child = pair.alice.spawn(
      ...run(['--private'], ...python(source, pair.bob.address4, `${PORT}`, '8')),
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    let said = '';
    child.stdout?.on('data', (text) => {
      said += text;
    });
    await eventually(() => assert.match(said, /started/), 30_000);
    const capture = await Capture.start(pair.lab, pair.alice);
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT), 'answered');
    assert.deepEqual((await capture.stop()).filter(isSyn).map(hasEno), [false]);
    child.stdin?.end('go\n');
    await eventually(() => assert.match(said, /answered/));
    await pair.onBob?.line(({ event }) => event === 'secure');
    await cleaned();
  });

  test('--private: refused by a host that cannot; --policy: by its rules', async () => {
    const strict = await greetUnder(['--private'], carol, 'address6');
    assert.equal(strict.saw, 'ECONNREFUSED');
    assert.ok(strict.asked.length > 0 && strict.asked.every(Boolean));
    const file = policyFile(pair.lab, `[[rule]]\naction = "block"\nport = ${PORT}`);
    const blocked = await greetUnder(['--policy', file], pair.bob);
    assert.deepEqual([blocked.saw, blocked.asked], ['ECONNREFUSED', []]);
    await cleaned();
  });

  test('exit code, signals, input and output are the command’s', async () => {
    const shell = (script: string, input?: string) =>
      pair.alice.run(...run(['--clear'], 'sh', ['-c', script]), {
        timeoutMs: 40_000,
        ...(input === undefined ? {} : { input }),
      });
    const { code, stdout, stderr } = await shell('cat; echo error >&2; exit 42', 'input');
    assert.deepEqual([code, String(stdout), stderr], [42, 'input', 'error\n']);
    assert.equal((await shell('kill -TERM $$')).code, 128 + 15);
    assert.equal((await shell('yes | head -1')).stdout.toString(), 'y\n');
    const missing = await pair.alice.run(...run([], 'no-such-command', []), { timeoutMs: 40_000 });
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /cannot run "no-such-command": there is no such program/);
    const mistaken = await pair.alice.run(...run(['--policy', '/no/such/file'], 'true', []));
    assert.equal(mistaken.code, 125);
    assert.equal((await pair.alice.run(...run(['--private', '--clear'], 'true', []))).code, 2);
    await cleaned();
  });

  test('kill -9: everything goes when the last process of the command has ended', async () => {
    const child = pair.alice.spawn(...run(['--private'], 'sh', ['-c', 'sleep 300 & echo $!; wait']), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout?.on('data', (text) => {
      said += text;
    });
    await eventually(() => assert.match(said, /^\d+\n/), 30_000);
    process.kill(child.pid ?? 0, 'SIGKILL');
    await eventually(() => assert.notEqual(child.signalCode, null));
    assert.match(rulesOf(pair.alice), /tcpcrypt_run_/);
    process.kill(Number(said), 'SIGKILL');
    await cleaned();
  });

  test('one after the other, without a pause: each is encrypted, though the daemon of the one before is about to end', async () => {
    for (let i = 0; i < 5; i++) {
      const { code, stdout, stderr } = await pair.alice.run(
        ...run([], ...python(ID, pair.bob.address4, `${PORT}`)),
        { timeoutMs: 40_000 },
      );
      assert.equal(code, 0, stderr);
      assert.match(String(stdout), /^[0-9a-f]{66}\n$/);
    }
    await cleaned();
  });

  test('rules whose shell was killed stay as long as the command lives; then "down", or the next command, removes them', async () => {
    const names = () => new Set(rulesOf(pair.alice).match(/(?<=table inet |comment ")tcpcrypt_run_\w+/g));
    const down = () => pair.alice.run(process.execPath, [main, 'down', '--pins', '/sys/fs/bpf/none'], {});
    for (const sweep of [down, () => pair.alice.run(...run([], 'true', []))]) {
      const child = pair.alice.spawn(...run(['--private'], 'sleep', ['300']), { stdio: 'ignore' });
      await eventually(() => assert.equal(names().size, 1), 30_000);
      const group = `tcpcrypt-run-${child.pid}`;
      const inGroup = (part: string) =>
        readFileSync(join(pair.alice.cgroup, group, part, 'cgroup.procs'), 'utf8')
          .split('\n')
          .filter(Boolean);
      await eventually(() => assert.deepEqual(inGroup('command'), [`${child.pid}`]));
      for (const pid of shellsOf(group)) process.kill(pid, 'SIGKILL');
      const [name = ''] = names();
      assert.equal((await sweep()).code, 0);
      assert.ok(names().has(name), 'the command lives');
      process.kill(child.pid ?? 0, 'SIGKILL');
      for (const pid of inGroup('daemon')) process.kill(Number(pid), 'SIGKILL');
      await eventually(() => assert.deepEqual([...inGroup('command'), ...inGroup('daemon')], []));
      const swept = await sweep();
      assert.equal(swept.code, 0, swept.stderr);
      await eventually(() => assert.ok(!names().has(name)));
      for (const records of readdirSync(tmpdir()).filter((entry) => entry.startsWith(`${name}-`)))
        rmSync(join(tmpdir(), records), { recursive: true });
      for (const part of ['command', 'daemon', '']) rmdirSync(join(pair.alice.cgroup, group, part));
      for (const pins of pinsOfRuns().filter((one) => one === group))
        await pair.alice.run(process.execPath, [main, 'down', '--pins', `/sys/fs/bpf/tcpcrypt/${pins}`]);
      await cleaned();
    }
  });

  test('--private when the daemon is killed: refused; a command that runs beside it is under its own policy', async () => {
    const child = pair.alice.spawn(
      ...run(
        ['--private'],
        ...python(
          `import subprocess, sys
print('started', flush=True)
for line in sys.stdin:
    print(subprocess.run([sys.executable, '-c', ${JSON.stringify(GREET)}, *sys.argv[1:]], capture_output=True, text=True).stdout, flush=True)`,
          pair.bob.address4,
          `${PORT}`,
          '8',
        ),
      ),
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let said = '';
    child.stdout?.on('data', (text) => {
      said += text;
    });
    await eventually(() => assert.match(said, /started/), 30_000);
    // A second one finds the first one's daemon.
    const beside = await greetUnder(['--clear'], pair.bob);
    assert.deepEqual([beside.saw, beside.asked], ['answered', [false]]);
    child.stdin?.write('\n');
    await eventually(() => assert.match(said, /answered/));
    const [group = ''] = groupsOf(pair.alice);
    const daemons = pair.alice
      .enter('cat', [join(pair.alice.cgroup, group, 'daemon', 'cgroup.procs')])
      .split('\n');
    for (const pid of daemons.filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
    child.stdin?.write('\n');
    await eventually(() => assert.match(said, /ECONNREFUSED/));
    child.stdin?.end();
    await cleaned();
  });
});

describe('tcpcrypt run, on a host with a daemon', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  before(async () => {
    pair = await Pair.open('both ends');
    carol = pair.lab.host('carol');
    await serve(pair.bob);
    await serve(carol);
  });
  after(() => pair?.close());

  test('its rules come before those of the host, and go with the command; the daemon stays', async () => {
    const before = rulesOf(pair.alice);
    for (const [flag, saw, asked] of [
      ['--clear', 'answered', false],
      ['--private', 'ECONNREFUSED', true],
    ] as const) {
      const capture = await Capture.start(pair.lab, pair.alice);
      const { stdout } = await pair.alice.run(
        ...run([flag], ...python(GREET, carol.address4, `${PORT}`, '8')),
        {
          timeoutMs: 40_000,
        },
      );
      assert.equal(String(stdout), saw);
      assert.deepEqual((await capture.stop()).filter(isSyn).map(hasEno), [asked]);
    }
    await eventually(() => assert.deepEqual(groupsOf(pair.alice), []), 30_000);
    // Neither what was counted, nor which destinations the daemon has found plain.
    const fleeting =
      /counter packets \d+ bytes \d+|packets \d+ bytes \d+|\s+elements = \{ [^}]*timeout[^}]*\}/g;
    assert.equal(rulesOf(pair.alice).replace(fleeting, ''), before.replace(fleeting, ''));
    pair.forget();
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT), 'answered');
    await pair.onAlice?.line(({ event }) => event === 'secure');
  });

  test('a server: --private takes no plain client, and encrypts with the others', async () => {
    const port = PORT + 1;
    const server = pair.bob.spawn(...run(['--private'], ...python(MANY, 'serve', `${port}`, 'client', '6')), {
      stdio: 'ignore',
    });
    await pair.bob.waitForListener(port, 30_000);
    assert.equal(await greet(pair.alice, pair.bob.address4, port), 'answered');
    assert.equal(await greet(carol, pair.bob.address4, port), 'ECONNREFUSED');
    assert.equal(await greet(carol, pair.bob.address4, PORT), 'answered');
    server.kill('SIGKILL');
    await eventually(() => assert.deepEqual(groupsOf(pair.bob), []), 30_000);
  });
});
