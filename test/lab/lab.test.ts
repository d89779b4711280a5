import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cgroupMount } from '#src/lab/cgroup.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const NOBODY = 65534;

const remains = (pid: number | undefined) => [
  ...readdirSync('/run/netns').filter((name) => name.startsWith(`tcpcrypt-lab-${pid}-`)),
  ...readdirSync(cgroupMount()).filter((name) => name.startsWith(`tcpcrypt-lab-${pid}-`)),
];

/** Not gone, and not dead while its parent, or init, has yet to notice. */
function alive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function waitUntil(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 100 && !condition(); i++) await sleep(50);
  assert.ok(condition());
}

async function firstLine(child: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of child.stdout ?? []) {
    text += chunk;
    if (text.includes('\n')) break;
  }
  return text.trim();
}

test('the mount point of cgroup v2 is found beside version 1, and with blanks in its name', () => {
  const v1 = 'cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n';
  assert.equal(cgroupMount(`${v1}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n`), '/sys/fs/cgroup/unified');
  assert.equal(cgroupMount('cgroup2 /a\\040b cgroup2 rw 0 0\n'), '/a b');
  assert.throws(() => cgroupMount(v1), { code: 'ERR_TCPCRYPT_KERNEL_FEATURE' });
});

describe('a lab of two hosts', { skip }, () => {
  let lab: Lab;
  let alice: Host;
  let bob: Host;
  before(async () => {
    lab = await Lab.create();
    alice = lab.host('alice');
    bob = lab.host('bob');
  });
  after(() => lab.destroy());

  test('addresses follow the order of creation', () => {
    assert.deepEqual([alice.address4, alice.address6], ['10.69.1.1', 'fd69:1::1']);
    assert.deepEqual([bob.address4, bob.address6], ['10.69.2.1', 'fd69:2::1']);
  });

  for (const family of ['address4', 'address6'] as const)
    test(`carries TCP over IPv${family.at(-1)}, whole and in both directions`, async () => {
      const port = family === 'address4' ? 7004 : 7006;
      const echo = `require('node:net').createServer({allowHalfOpen: true}, (s) => s.pipe(s)).listen(${port}, '${bob[family]}')`;
      const server = bob.spawn(process.execPath, ['-e', echo], { stdio: 'inherit' });
      await bob.waitForListener(port);
      const input = Buffer.alloc(1_000_000, 'tcpcrypt');
      const { code, stdout, stderr } = await alice.run('nc', ['-N', bob[family], String(port)], { input });
      assert.equal(code, 0, stderr);
      assert.ok(stdout.equals(input));
      server.kill();
    });

  test('programs run in the cgroup of their host from their first instruction', async () => {
    const { stdout } = await alice.run('cat', ['/proc/self/cgroup']);
    const { base } = /^0::\/(?<base>.*)$/m.exec(String(stdout))?.groups ?? {};
    assert.equal(join(cgroupMount(), base ?? ''), alice.cgroup);
  });

  test('spawn returns the pid of the program itself', async () => {
    const child = alice.spawn('sleep', ['60']);
    await waitUntil(() => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === 'sleep\n');
    child.kill();
    await once(child, 'exit');
    assert.equal(child.signalCode, 'SIGTERM');
  });

  test('an unprivileged program has neither groups nor capabilities', async () => {
    const { stdout } = await alice.run('cat', ['/proc/self/status'], { uid: NOBODY });
    assert.match(String(stdout), /^Uid:\t65534\t65534\t65534\t65534$/m);
    assert.match(String(stdout), /^Gid:\t65534\t65534\t65534\t65534$/m);
    assert.match(String(stdout), /^Groups:\t\s*$/m);
    assert.match(String(stdout), /^CapEff:\t0+$/m);
  });

  test('run passes input, output and exit code', async () => {
    const script = 'cat; echo problem >&2; exit 3';
    const { code, stdout, stderr } = await alice.run('sh', ['-c', script], { input: 'in "$1"' });
    assert.deepEqual([code, String(stdout), stderr], [3, 'in "$1"', 'problem\n']);
    assert.equal((await alice.run('sh', ['-c', 'kill -9 $$'])).code, 137);
    assert.equal((await alice.run('no-such-program')).code, 127);
    assert.equal((await alice.run('cat')).stdout.length, 0, 'without input there is end of file');
    assert.equal((await alice.run('true', [], { input: Buffer.alloc(1_000_000) })).code, 0);
  });

  test('run ends a program that takes too long, with its children', async () => {
    const running = alice.run('sh', ['-c', 'sleep 60 & echo started >&2; wait'], { timeoutMs: 300 });
    await assert.rejects(running, {
      code: 'ERR_TCPCRYPT_LAB',
      message: /not finished after 300 ms: started/,
    });
    await waitUntil(() => readFileSync(join(alice.cgroup, 'cgroup.procs'), 'utf8') === '');
  });

  test('run ends a program that says too much', async () => {
    const running = alice.run('yes', [], { maxOutput: 100_000 });
    await assert.rejects(running, { code: 'ERR_TCPCRYPT_LAB', message: /more than 100000 bytes/ });
  });

  test('waiting for a listener is bounded', async () => {
    await assert.rejects(bob.waitForListener(9, 100), { message: /bob: nobody listens on port 9/ });
  });

  test('names that would be ambiguous are refused', () => {
    for (const name of ['alice', 'router', 'lo', '', 'a'.repeat(16), "a'b", 'A', '../x'])
      assert.throws(() => lab.host(name), { code: 'ERR_TCPCRYPT_ARGUMENT' });
  });
});

test('a host may be called like a word of the ip command', { skip }, async () => {
  const lab = await Lab.create();
  const hosts = ['a', 'up', 'dev', 'help'].map((name) => lab.host(name));
  const [first, last] = [hosts[0], hosts.at(-1)];
  last?.spawn('nc', ['-lk', '7000'], { stdio: 'ignore' });
  await last?.waitForListener(7000);
  assert.equal((await first?.run('nc', ['-z', last?.address4 ?? '', '7000']))?.code, 0);
  await lab.destroy();
});

test('several labs exist side by side, do not see each other, and leave nothing', { skip }, async () => {
  const [one, two] = [await Lab.create({ name: 'one' }), await Lab.create({ name: 'two' })];
  const server = one.host('alice');
  const stranger = two.host('mallory');
  two.host('alice');
  server.spawn('nc', ['-lk', '7000'], { stdio: 'ignore' });
  await server.waitForListener(7000);
  assert.equal((await one.host('bob').run('nc', ['-z', server.address4, '7000'])).code, 0);
  assert.notEqual((await stranger.run('nc', ['-z', '-w1', server.address4, '7000'])).code, 0);
  await one.destroy();
  assert.notEqual(remains(process.pid).length, 0, 'the other lab is still there');
  await two.destroy();
  await two.destroy();
  assert.deepEqual(remains(process.pid), []);
  assert.ok(!existsSync(one.directory) && !existsSync(two.directory));
});

test('destroy kills what still runs, also when it ignores signals or sits in a cgroup below', {
  skip,
}, async () => {
  const lab = await Lab.create();
  const alice = lab.host('alice');
  const script = `trap '' TERM HUP INT; mkdir ${alice.cgroup}/below; echo 0 > ${alice.cgroup}/below/cgroup.procs
    setsid sleep 1000 & echo $! $$; wait`;
  const child = alice.spawn('sh', ['-c', script]);
  const pids = (await firstLine(child)).split(' ').map(Number);
  assert.equal(pids.length, 2);
  assert.ok(pids.every(alive));
  await lab.destroy();
  assert.deepEqual(pids.filter(alive), []);
});

for (const [end, body] of [
  ['kill -9', `process.kill(process.pid, 'SIGKILL')`],
  ['an exception', `throw new Error('on purpose')`],
  ['plain exit', 'process.exit(0)'],
] as const)
  test(`nothing remains after ${end}`, { skip }, async () => {
    const script = `import { Lab } from ${JSON.stringify(import.meta.resolve('#src/lab/lab.js'))};
      const lab = await Lab.create();
      const child = lab.host('alice').spawn('sleep', ['1000'], { stdio: 'ignore' });
      console.log(lab.directory, child.pid);
      setTimeout(() => { ${body} }, 100);`;
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const ended = once(owner, 'exit');
    const [directory = '', sleeper] = (await firstLine(owner)).split(' ');
    assert.equal(remains(owner.pid).length, 3, 'a router, a host, and the cgroup');
    await ended;
    await waitUntil(() => remains(owner.pid).length === 0 && !existsSync(directory));
    assert.ok(!alive(Number(sleeper)));
  });
