/** In network namespaces of their own, which end with the processes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const modules = Object.fromEntries(
  ['namespace-lock', 'libc'].map((name) => [
    name,
    new URL(`../../../dist/kernel/${name}.js`, import.meta.url),
  ]),
);
const PRELUDE = `
  import assert from 'node:assert/strict';
  import { spawn, spawnSync } from 'node:child_process';
  import { once } from 'node:events';
  import { lockNamespace } from '${modules['namespace-lock']}';
  import { close } from '${modules.libc}';
  const again = \`import { lockNamespace } from '${modules['namespace-lock']}';
    console.log(lockNamespace('daemon') !== undefined);
    process.argv.includes('stay') && setInterval(() => {}, 1000);\`;
  const node = [process.execPath, '--input-type=module', '-e', again, '--'];
  const freeForOthers = (...before) => {
    const [file, ...args] = [...before, ...node];
    return spawnSync(file, args, { encoding: 'utf8' }).stdout.trim() === 'true';
  };
`;

function inNamespace(script: string): void {
  const { status, stderr } = spawnSync(
    'unshare',
    ['--net', process.execPath, '--input-type=module', '-e', PRELUDE + script],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
}

test('one has it at a time, in this process or in another; each name and each namespace has its own', () =>
  inNamespace(`
    const lock = lockNamespace('daemon');
    assert.notEqual(lock, undefined);
    assert.equal(lockNamespace('daemon'), undefined);
    assert.equal(freeForOthers(), false);
    assert.equal(freeForOthers('unshare', '--mount'), false);
    assert.equal(freeForOthers('unshare', '--net'), true);
    assert.notEqual(lockNamespace('another'), undefined);
    close(lock);
    assert.equal(freeForOthers(), true);
  `));

test('it goes with its holder, also by kill -9, and leaves nothing', () =>
  inNamespace(`
    const [file, ...args] = [...node, 'stay'];
    const holder = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    assert.equal(String((await once(holder.stdout, 'data'))[0]), 'true\\n');
    assert.equal(lockNamespace('daemon'), undefined);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    assert.equal(spawnSync('nft', ['list', 'ruleset'], { encoding: 'utf8' }).stdout, '');
    assert.notEqual(lockNamespace('daemon'), undefined);
  `));

test('whoever inherits the descriptor goes on having it', () =>
  inNamespace(`
    const lock = lockNamespace('daemon');
    const heir = spawn('/bin/sh', ['-c', 'read -r _'], { stdio: ['pipe', 'ignore', 'inherit', 'ignore', lock] });
    await once(heir, 'spawn');
    close(lock);
    assert.equal(freeForOthers(), false);
    heir.stdin.end();
    await once(heir, 'exit');
    assert.equal(freeForOthers(), true);
  `));

test('it outlives "nft flush ruleset", and nobody else deletes it', () =>
  inNamespace(`
    assert.notEqual(lockNamespace('daemon'), undefined);
    assert.equal(spawnSync('nft', ['flush', 'ruleset']).status, 0);
    assert.equal(freeForOthers(), false);
    assert.notEqual(spawnSync('nft', ['delete', 'table', 'inet', 'tcpcrypt_lock_daemon']).status, 0);
    assert.equal(freeForOthers(), false);
  `));

test('a user without privileges can neither take it nor stand in the way of who may', () =>
  inNamespace(`
    const squatter = spawn('python3', ['-c', \`
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
taken = socket.socket(socket.AF_UNIX)
taken.bind('\\\\0tcpcrypt/daemon')
print('bound', flush=True)
sys.stdin.read()
\`], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(squatter.stdout, 'data');
    const lock = lockNamespace('daemon');
    assert.notEqual(lock, undefined);
    squatter.stdin.end();
    process.setgroups([]);
    process.setgid(65534);
    process.setuid(65534);
    // Neither where it is taken nor where it is free.
    assert.throws(() => lockNamespace('daemon'), { code: 'ERR_TCPCRYPT_PERMISSION' });
    close(lock);
    assert.throws(() => lockNamespace('daemon'), { code: 'ERR_TCPCRYPT_PERMISSION' });
  `));
