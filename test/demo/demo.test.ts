/** `tcpcrypt demo`, as a user runs it. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { DemoReport } from '#src/demo/demo.js';
import { defaultPins } from '#src/kernel/pins.js';
import { cgroupMount } from '#src/lab/cgroup.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));

interface Demo {
  readonly process: ChildProcess;
  readonly output: { stdout: string; stderr: string };
  readonly ended: Promise<number | null>;
}

function demo(...args: string[]): Demo {
  const child = spawn(process.execPath, [main, 'demo', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  return { process: child, output, ended: new Promise((resolve) => child.once('close', resolve)) };
}

/** What bears the name of that demo's lab. */
function remains(pid: number | undefined): string[] {
  const prefix = `tcpcrypt-lab-${pid}-`;
  const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
  return [
    ...namesIn('/run/netns'),
    ...namesIn(cgroupMount()),
    ...namesIn(dirname(defaultPins())),
    ...execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n'),
  ].filter((name) => name.includes(prefix));
}

/** Guards may still be at work for a moment after a kill. */
async function nothingRemains(pid: number | undefined): Promise<void> {
  for (let i = 0; i < 100 && remains(pid).length > 0; i++) await sleep(50);
  assert.deepEqual(remains(pid), []);
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !condition(); i++) await sleep(25);
  assert.ok(condition());
}

test('the demo shows what it promises, as JSON', async () => {
  const { process: child, output, ended } = demo('--json');
  assert.equal(await ended, 0, output.stderr);
  const report = JSON.parse(output.stdout) as DemoReport;
  assert.ok(report.ok);
  assert.ok(report.checks.length >= 10 && report.checks.every(({ ok }) => ok));
  assert.ok(report.plain?.plaintextSeen);
  const { encrypted, third } = report;
  assert.equal(encrypted?.plaintextSeen, false);
  assert.match(encrypted?.syn.join() ?? '', /ENO \[45 05 21 24 23\]/);
  assert.match(encrypted?.synAck.join() ?? '', /ENO \[45 04 01 23\]/);
  assert.match(encrypted?.firstAck.join() ?? '', /ENO \[45 02\]/);
  assert.match(encrypted?.sessionIds.alice ?? '', /^23[0-9a-f]{64}$/);
  assert.equal(encrypted?.sessionIds.alice, encrypted?.sessionIds.bob);
  assert.equal(encrypted?.sha256, report.plain?.sha256);
  assert.ok(third?.first.plaintextSeen && third.later.plaintextSeen);
  assert.doesNotMatch(third.later.syn.join(), /ENO/);
  assert.ok(report.seconds < 60);
  await nothingRemains(child.pid);
});

test('piped, it has no colours and says how it went', async () => {
  const { output, ended } = demo();
  assert.equal(await ended, 0, output.stderr);
  assert.ok(!output.stdout.includes('\u001b'));
  assert.match(output.stdout, /session ID, alice +23[0-9a-f]{64}\n/);
  assert.match(output.stdout, /All checks passed/);
});

test('Ctrl-C in the middle ends it cleanly', async () => {
  const { process: child, output, ended } = demo();
  await until(() => output.stdout.includes('2. With tcpcrypt'));
  child.kill('SIGINT');
  assert.equal(await ended, 130);
  await nothingRemains(child.pid);
});

test('kill -9 in the middle leaves nothing behind', async () => {
  const { process: child, output, ended } = demo();
  await until(() => output.stdout.includes('first ACK         timestamps, ENO'));
  child.kill('SIGKILL');
  await ended;
  await nothingRemains(child.pid);
});

test('without root it names the remedy', async () => {
  const result = spawn('setpriv', ['--reuid=65534', '--clear-groups', process.execPath, main, 'demo'], {
    cwd: join(dirname(main), '..'),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  result.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise((resolve) => result.once('close', resolve));
  assert.equal(code, 1);
  assert.match(stderr, /run as root/);
});
