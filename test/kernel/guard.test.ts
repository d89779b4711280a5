import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-guard-'));
after(() => rmSync(directory, { recursive: true }));
const guardModule = import.meta.resolve('#src/kernel/guard.js');

async function owner(name: string, body: string): Promise<{ ran: () => boolean; code: number | null }> {
  const mark = join(directory, name);
  const script = `import { Guard } from ${JSON.stringify(guardModule)};
    const guard = new Guard(${JSON.stringify(`echo > '${mark}'`)}); ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  for (let i = 0; i < 50 && !existsSync(mark); i++) await sleep(20);
  return { ran: () => existsSync(mark), code };
}

test('the script runs after SIGKILL', async () => {
  assert.ok((await owner('kill', `process.kill(process.pid, 'SIGKILL');`)).ran());
});

test('the script runs when the owner just ends, and does not keep it running', async () => {
  const { ran, code } = await owner('exit', '');
  assert.equal(code, 0);
  assert.ok(ran());
});

test('a guard that stood down runs nothing', async () => {
  assert.ok(!(await owner('stand-down', 'await guard.standDown();')).ran());
});

test('whoever waits for a guard lives to see its end', async () => {
  const { ran, code } = await owner('run', 'await guard.run();');
  assert.equal(code, 0);
  assert.ok(ran());
});
