/** up and down: complete, exact, atomic, repeatable. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TcpcryptError } from '#src/errors.js';
import { cgroupRoot } from '#src/kernel/cgroup.js';
import { enoOutcome, kernelPartPresent } from '#src/kernel/eno-socket.js';
import { down, up } from '#src/kernel/install.js';
import { dial, emptyLab, enter, fdOf, hex, listen, pair, shell } from './lab.js';

/** Maps and links. */
const PINS = 18;

const place = emptyLab();
const cli = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const object = fileURLToPath(new URL('bpf/eno.bpf.o', import.meta.resolve('#src/errors.js')));
const refused = fileURLToPath(new URL('../../bpf/refused.bpf.o', import.meta.url));

/** Everything that "up" could leave behind: pins, links to our cgroups, our maps. Other tests run at the same time. */
function traces(): { pins: unknown[]; links: unknown[]; mounts: string } {
  const ids = new Set(['.', 'a', 'b'].map((name) => inode(join(place.cgroup, name))));
  const links = JSON.parse(shell('bpftool -j link list')) as { cgroup_id?: number }[];
  return {
    pins: readdirSync(place.bpffs, { recursive: true }).filter((name) => !String(name).includes('.')),
    links: links.filter((link) => link.cgroup_id !== undefined && ids.has(link.cgroup_id)),
    mounts: shell(`grep ' ${place.directory}/' /proc/mounts || true`),
  };
}
const inode = (path: string): number => (existsSync(path) ? Number(shell(`stat -c %i '${path}'`)) : -1);

const tcpcrypt = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8' });

test('down is the exact inverse of up, and both say so when there is nothing to do', () => {
  const before = traces();
  assert.equal(up(place).action, 'loaded');
  assert.deepEqual(readdirSync(place.pins).sort(), [
    'eno_carried',
    'eno_daemon_listeners',
    'eno_defaults',
    'eno_flushes',
    'eno_install',
    'eno_listeners',
    'eno_ports',
    'eno_requests',
    'eno_resumable',
    'eno_resumption',
    'eno_sockets',
    'eno_true_peers',
    'eno_wishes',
    'link_eno_get',
    'link_eno_peer4',
    'link_eno_peer6',
    'link_eno_set',
    'link_eno_sockops',
  ]);
  const loaded = traces();
  assert.equal(up(place).action, 'unchanged');
  assert.deepEqual(traces(), loaded);
  assert.equal(down(place).action, 'removed');
  assert.deepEqual(traces(), before);
  assert.equal(down(place).action, 'nothing');
  assert.deepEqual(traces(), before);
});

test('the kernel part is there for exactly the processes of its cgroup', () => {
  assert.equal(kernelPartPresent(), false);
  up(place);
  assert.equal(kernelPartPresent(), false);
  enter(place.cgroup);
  assert.equal(kernelPartPresent(), true);
  down(place);
  assert.equal(kernelPartPresent(), false);
});

test('a failed up leaves nothing: no such cgroup, not a cgroup, no object, pins not on a BPF file system', () => {
  const before = traces();
  const fails = (options: Parameters<typeof up>[0], code: string): void => {
    assert.throws(
      () => up(options),
      (error) => error instanceof TcpcryptError && error.code === code,
    );
    assert.deepEqual(traces(), before);
  };
  fails({ ...place, cgroup: join(place.cgroup, 'none') }, 'ERR_TCPCRYPT_ARGUMENT');
  fails({ ...place, cgroup: '/proc' }, 'ERR_TCPCRYPT_ARGUMENT');
  fails({ ...place, object: join(place.directory, 'none') }, 'ERR_TCPCRYPT_ARGUMENT');
  fails({ ...place, pins: join(place.directory, 'not-bpf', 'v1') }, 'ERR_TCPCRYPT_ARGUMENT');
  fails({ ...place, object: '/proc/self/status' }, 'ERR_TCPCRYPT_KERNEL_FEATURE');
});

test('an object that the verifier refuses leaves nothing, and the verifier says why', () => {
  const before = traces();
  assert.throws(
    () => up({ ...place, object: refused }),
    (error) =>
      error instanceof TcpcryptError &&
      error.code === 'ERR_TCPCRYPT_KERNEL_FEATURE' &&
      error.cause instanceof Error &&
      /invalid bpf_context access off=4096/.test(error.cause.message),
  );
  assert.deepEqual(traces(), before);
});

test('an up that fails half way, at the cgroup, leaves nothing', () => {
  const a = place.nested('a');
  const before = traces();
  // Somebody attached a program to our cgroup exclusively (without "multi"): links are refused then.
  const pin = join(place.bpffs, 'other');
  shell(`bpftool prog load '${refused.replace('refused', 'harmless')}' '${pin}' type cgroup/getpeername6 &&
         bpftool cgroup attach '${a}' cgroup_inet6_getpeername pinned '${pin}'`);
  try {
    assert.throws(
      () => up({ ...place, cgroup: a }),
      (error) => error instanceof TcpcryptError && /attaching eno_peer6/.test(error.message),
    );
  } finally {
    shell(`bpftool cgroup detach '${a}' cgroup_inet6_getpeername pinned '${pin}'`);
    rmSync(pin);
  }
  assert.deepEqual(traces(), before);
});

test('an up that is killed at any moment: down removes what it left, or up starts over from there', async () => {
  const before = traces();
  const args = [cli, 'up', '--pins', place.pins, '--cgroup', place.cgroup];
  const start = performance.now();
  spawnSync(process.execPath, args);
  const whole = performance.now() - start;
  down(place);
  for (let moment = 1; moment <= 12; moment++) {
    const child = spawn(process.execPath, args);
    const exit = once(child, 'exit');
    await sleep(whole * (0.4 + moment * 0.05));
    child.kill('SIGKILL');
    await exit;
    if (moment % 2) up(place);
    down(place);
    assert.deepEqual(traces(), before, `killed at moment ${moment}`);
  }
});

test('several ups at once: one loads, the others find it up', async () => {
  const args = ['up', '--json', '--pins', place.pins, '--cgroup', place.cgroup];
  const run = promisify(execFile);
  const reports = await Promise.all(Array.from({ length: 4 }, () => run(process.execPath, [cli, ...args])));
  const actions = reports.map(({ stdout }) => (JSON.parse(stdout) as { action: string }).action);
  assert.deepEqual(actions.sort(), ['loaded', 'unchanged', 'unchanged', 'unchanged']);
  down(place);
});

test('an up that was killed in the last moment, before the staging directory got its name', () => {
  const before = traces();
  for (const repair of [() => up(place).action, () => 'loaded']) {
    up(place);
    renameSync(place.pins, `${place.pins}_new`);
    assert.equal(repair(), 'loaded');
    assert.equal(down(place).action, 'removed');
    assert.deepEqual(traces(), before);
  }
});

test('up repairs an installation that lacks a link or a map', () => {
  const before = traces();
  for (const missing of ['link_eno_set', 'eno_requests', 'eno_install']) {
    up(place);
    rmSync(join(place.pins, missing));
    assert.equal(up(place).action, 'replaced', missing);
    assert.equal(readdirSync(place.pins).length, PINS);
  }
  down(place);
  assert.deepEqual(traces(), before);
});

test('up replaces, and down removes, what another version left', () => {
  const before = traces();
  const otherVersion = `mkdir -p '${place.pins}' &&
    bpftool map create '${place.pins}/eno_install' type array key 4 value 8 entries 1 name eno_install`;
  shell(otherVersion);
  assert.equal(up(place).action, 'replaced');
  down(place);
  shell(otherVersion);
  assert.equal(down(place).action, 'removed');
  assert.deepEqual(traces(), before);
});

test('up repairs an installation whose cgroup was removed, and moves to another cgroup', () => {
  const b = join(place.cgroup, 'gone');
  const before = traces();
  mkdirSync(b);
  up({ ...place, cgroup: b });
  rmdirSync(b);
  assert.equal(up(place).action, 'replaced');
  enter(place.cgroup);
  assert.equal(kernelPartPresent(), true);
  assert.equal(down(place).action, 'removed');
  assert.deepEqual(traces(), before);
});

test('a newer object takes over in place: listeners that are open keep speaking ENO', async () => {
  const newer = join(place.directory, 'newer.bpf.o');
  copyFileSync(object, newer);
  shell(`printf 'x' >> '${newer}'`); // another object by its hash; behind the ELF sections nothing is read
  up(place);
  enter(place.cgroup);
  const { server: listener, port, accept } = await listen({ contents: hex('23') });
  const old = [await dial(port, { contents: hex('23') }), await accept()];
  const links = JSON.stringify(traces().links).replace(/"prog_id":\d+/g, '');
  assert.equal(up({ ...place, object: newer }).action, 'updated');
  assert.equal(JSON.stringify(traces().links).replace(/"prog_id":\d+/g, ''), links);
  const young = [await dial(port, { contents: hex('23') }), await accept()];
  for (const end of [...old, ...young]) {
    assert.equal(enoOutcome(fdOf(end)).result, 'encrypt');
    end.destroy();
  }
  listener.close();
  assert.equal(up({ ...place, object: newer }).action, 'unchanged');
  down(place);
});

test('stacked installations: the nearest cgroup wins, and each works without the other', async () => {
  const b = place.nested('b');
  const inner = join(place.bpffs, 'inner');
  const encrypts = async (): Promise<boolean> => {
    const ends = await pair({ contents: hex('23') }, { contents: hex('23') });
    const results = [ends.client, ends.server].map((end) => enoOutcome(fdOf(end)).result);
    ends.close();
    return results.every((result) => result === 'encrypt');
  };
  const handledBy = (pins: string): number =>
    (JSON.parse(shell(`bpftool -j map dump pinned '${join(pins, 'eno_listeners')}'`)) as unknown[]).length;
  up(place);
  up({ cgroup: b, pins: inner });
  enter(b);
  const { close } = await pair({ contents: hex('23') }, { contents: hex('23') });
  assert.deepEqual([handledBy(inner), handledBy(place.pins)], [1, 0]);
  close();
  assert.ok(await encrypts());
  down({ pins: inner });
  assert.ok(await encrypts());
  up({ cgroup: b, pins: inner });
  down(place);
  assert.ok(await encrypts());
  down({ pins: inner });
  assert.equal(kernelPartPresent(), false);
  enter(place.cgroup);
});

test('up mounts the BPF file system where there is none, and down unmounts it', () => {
  // In a mount namespace of its own, without the machine's /sys/fs/bpf.
  const script = `
    while grep -q ' /sys/fs/bpf bpf ' /proc/mounts; do umount /sys/fs/bpf; done
    umount -t bpf -a
    node=${process.execPath}
    "$node" ${cli} up --cgroup ${place.cgroup} --json && ls /sys/fs/bpf/tcpcrypt/v1 | wc -l &&
    mv /sys/fs/bpf/tcpcrypt/v1 /sys/fs/bpf/tcpcrypt/v1_new && "$node" ${cli} up --cgroup ${place.cgroup} >&2 &&
    "$node" ${cli} down --json && grep -c ' /sys/fs/bpf bpf ' /proc/mounts`;
  const { stdout, stderr } = spawnSync('unshare', ['--mount', '/bin/sh', '-c', script], { encoding: 'utf8' });
  const [upReport = '', pins, downReport = '', mounts] = stdout.trim().split('\n');
  assert.match(stderr, /^The kernel part is up: .*\n$/); // again, after an "up" that was killed
  assert.equal(JSON.parse(upReport).mountedBpffs, true);
  assert.equal(pins, `${PINS}`);
  // Daemons that other tests have killed leave what "down" lifts as well.
  const { lifted: _, ...report } = JSON.parse(downReport);
  assert.deepEqual(report, {
    action: 'removed',
    pins: '/sys/fs/bpf/tcpcrypt/v1',
    unmountedBpffs: true,
  });
  assert.equal(mounts, '0');
});

test('one "up" at a time; a user without privileges can hold up none', async () => {
  const holder = async (file: string, user: number): Promise<ChildProcess> => {
    const script = `
import fcntl, os, sys
os.setgroups([])
os.setgid(${user})
os.setuid(${user})
try:
    file = open('${file}') if os.path.isfile('${file}') else os.open('${file}', os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    print('locked', flush=True)
except PermissionError:
    print('refused', flush=True)
sys.stdin.read()`;
    return spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  };
  const said = async ({ stdout }: ChildProcess): Promise<string> =>
    String((await once(stdout as Readable, 'data'))[0]).trim();
  // What was locked formerly, and what is locked now.
  const others = await Promise.all(
    [cgroupRoot() ?? '', '/proc/sys/kernel/cad_pid'].map((file) => holder(file, 65534)),
  );
  assert.deepEqual(await Promise.all(others.map(said)), ['locked', 'refused']);
  const start = performance.now();
  assert.equal(tcpcrypt('up', '--pins', place.pins, '--cgroup', place.cgroup).status, 0);
  assert.ok(performance.now() - start < 8_000);
  for (const other of others) other.stdin?.end();

  const root = await holder('/proc/sys/kernel/cad_pid', 0);
  assert.equal(await said(root), 'locked');
  const waits = spawn(process.execPath, [cli, 'down', '--pins', place.pins], { stdio: 'ignore' });
  await sleep(1_500);
  assert.equal(waits.exitCode, null);
  assert.ok(existsSync(place.pins));
  root.stdin?.end();
  assert.deepEqual(await once(waits, 'exit'), [0, null]);
  assert.ok(!existsSync(place.pins));
});

test('the command: exit codes, JSON, errors with code and remedy', () => {
  const where = ['--pins', place.pins, '--cgroup', place.cgroup];
  assert.equal(JSON.parse(tcpcrypt('up', ...where, '--json').stdout).action, 'loaded');
  assert.match(tcpcrypt('up', ...where).stdout, /^The kernel part was up already: cgroup /);
  assert.match(tcpcrypt('down', '--pins', place.pins).stdout, /^The kernel part is gone: /);
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  assert.equal(tcpcrypt('--version').stdout.trim(), version);

  const unknown = tcpcrypt('up', '--nonsense');
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /unknown option '--nonsense'/);
  const nowhere = tcpcrypt('up', '--pins', place.pins, '--cgroup', join(place.cgroup, 'none'));
  assert.equal(nowhere.status, 2);
  assert.match(nowhere.stderr, /no cgroup \/.*none.*\n\[ERR_TCPCRYPT_ARGUMENT\]/);
  const unprivileged = spawnSync(
    'setpriv',
    ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, cli, 'up', ...where],
    { encoding: 'utf8' },
  );
  assert.equal(unprivileged.status, 1);
  assert.match(unprivileged.stderr, /not permitted: run as root\n\[ERR_TCPCRYPT_PERMISSION\]/);
});

test('doctor: names what is missing and the remedy; all is well once the kernel part is up', () => {
  const missing = tcpcrypt('doctor', '--pins', place.pins);
  assert.equal(missing.status, 1);
  assert.match(
    missing.stdout,
    /^MISSING {2}kernel part serves this process: .*\n +run "tcpcrypt up" as root/m,
  );
  up(place);
  enter(place.cgroup);
  const fine = tcpcrypt('doctor', '--pins', place.pins, '--json');
  down(place);
  const { ok, checks } = JSON.parse(fine.stdout) as {
    ok: boolean;
    checks: { name: string; found: string }[];
  };
  assert.ok(ok, fine.stdout);
  assert.equal(fine.status, 0);
  assert.equal(checks.find(({ name }) => name.includes('handshake'))?.found, 'both ends agree');
});
