/** A short run of the fuzzer, and the fuzzer itself: it finds, makes small, saves, replays, and notices a hang. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

function fuzz(...options: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, '--no-save', ...options], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}

test('all targets, with everything that the corpus has, and some seconds of new inputs', () => {
  const { status, output } = fuzz('--seconds', '8');
  assert.equal(status, 0, output);
});

test('a fault is found, made small, saved, and replayed by the command that is printed', () => {
  const { status, output } = fuzz('--seconds', '5', '--seed', '1', 'canary-throws');
  assert.equal(status, 1, output);
  assert.match(output, /FAILED with 6 bytes\nError: the canary sings/);
  const [, file = ''] = /replay: npm run fuzz -- --replay (\S+) canary-throws/.exec(output) ?? [];
  const replayed = fuzz('--replay', file, 'canary-throws');
  assert.match(replayed.output, /the canary sings/);
  assert.notEqual(replayed.status, 0);
  rmSync(`${ROOT}/${file}`);
});

test('the same seed finds the same', () => {
  const [first, second] = [0, 1].map(() => fuzz('--seconds', '5', '--seed', '7', 'canary-throws').output);
  assert.equal(first, second);
});

test('an input that never returns is found, too', () => {
  const { status, output } = fuzz('--seconds', '5', '--patience', '1', 'canary-hangs');
  assert.equal(status, 1, output);
  const [, file = ''] = /has not returned for 1 seconds\nreplay: .* --replay (\S+) /.exec(output) ?? [];
  rmSync(`${ROOT}/${file}`);
});

test('SIGINT ends it in order', async () => {
  const child = spawn(process.execPath, [MAIN, '--no-save', '--seconds', '60', 'eno'], { cwd: ROOT });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
    if (output.startsWith('seed')) void sleep(500).then(() => child.kill('SIGINT'));
  });
  const status = await new Promise((resolve) => child.on('exit', resolve));
  assert.equal(status, 130);
  assert.match(output, /eno .*inputs[\s\S]*stopped/);
});

test('impossible options are refused', () => {
  for (const options of [
    ['no-such-target'],
    ['--seconds', 'x'],
    ['--seed', '1.5'],
    ['--replay', '/dev/null'],
  ]) {
    const { status, output } = fuzz(...options);
    assert.equal(status, 2, output);
    assert.match(output, /targets:/);
  }
});
