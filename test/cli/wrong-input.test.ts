/** Whoever mistypes is told what: no stack trace, no guess at another cause, and with --json an object. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const skip = process.getuid?.() === 0 ? false : 'needs root';

describe('wrong input', { skip }, () => {
  let directory: string;
  let file: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-wrong-'));
    file = join(directory, 'file');
    writeFileSync(file, 'hello', { mode: 0o600 });
  });
  after(() => rmSync(directory, { recursive: true }));

  /** In a network namespace of its own, where no daemon runs. */
  function tcpcrypt(...args: readonly string[]) {
    const { status, stdout, stderr } = spawnSync('unshare', ['-n', process.execPath, main, ...args], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    assert.doesNotMatch(stderr, /^ {4}at |DeprecationWarning/m, args.join(' '));
    return { code: status, stdout, stderr };
  }

  test('values of options and arguments are named, with exit status 2', () => {
    for (const [args, named] of [
      [['connect', '', '80'], /'host'.*empty/],
      [['connect', 'localhost', '0'], /'port'/],
      [['connect', 'localhost', '65536'], /65536/],
      [['listen', '', '80'], /'address'.*empty/],
      [['listen', '-1'], /-1/],
      [['status', '--control', ''], /'--control <path>'/],
      [['status', '--control', directory], /is no socket/],
      [['connections', '--address', 'x'], /'--address <address>'.*IP address/],
      [['connections', '--address', 'fe80::1%lo'], /'--address <address>'.*IP address/],
      [['connections', '--session', 'zz'], /'--session <hex>'.*hexadecimal/],
      [['connections', '--port', '0'], /'--port <port>'/],
      [['paths', '--flush', 'x'], /'--flush \[address\]'/],
      [['down', '--pins', ''], /'--pins <dir>'/],
      [['up', '--cgroup', ''], /'--cgroup <path>'/],
      [['policy', 'explain', '--to', '1.2.3.4', '--cgroup', ''], /'--cgroup <path>'/],
      [['policy', 'check', ''], /'file'/],
      [['daemon', '--user', ''], /'--user <name>'/],
      [['session-id', '--pid', '999999999'], /no process 999999999/],
    ] as const) {
      const { code, stdout, stderr } = tcpcrypt(...args);
      assert.match(stderr, named, args.join(' '));
      assert.equal(code, 2, args.join(' '));
      assert.equal(stdout, '', args.join(' '));
    }
  });

  test('a directory in the place of a key is called one', () => {
    assert.match(tcpcrypt('host-key', 'show', directory).stderr, /: a directory\)/);
    assert.equal(tcpcrypt('host-key', 'make', '/proc/none/key').code, 1); // and ends
  });

  test('run: an unknown user, a command that does not exist; nothing is set up for the former', () => {
    const user = tcpcrypt('run', '--user', 'no-such-user', '--', 'true');
    assert.equal(user.code, 125);
    assert.match(user.stderr, /there is no user "no-such-user"\)\n\[ERR_TCPCRYPT_ARGUMENT\]/);
    const command = tcpcrypt('run', '--clear', '--', 'no-such-command');
    assert.equal(command.code, 127);
    assert.equal(command.stderr, 'tcpcrypt: cannot run "no-such-command": there is no such program\n');
  });

  test('down: a directory that is not ours is left alone, and said to hold nothing of ours', () => {
    for (const name of ['link_to_something', 'eno_diary']) writeFileSync(join(directory, name), 'precious');
    const empty = join(directory, 'tcpcrypt', 'empty');
    mkdirSync(empty, { recursive: true });
    const before = readdirSync(directory, { recursive: true });
    for (const pins of [directory, empty, file]) {
      const { code, stdout } = tcpcrypt('down', '--pins', pins);
      // Daemons that other tests have killed leave what "down" removes as well.
      const said = stdout.replace(/^removed: socket of a daemon .*\n/gm, '');
      assert.equal(said, `${pins} holds no kernel part of ours: nothing was touched there\n`);
      assert.equal(code, 0);
      assert.equal(JSON.parse(tcpcrypt('down', '--pins', pins, '--json').stdout).action, 'nothing');
    }
    assert.match(tcpcrypt('down', '--pins', join(directory, 'none')).stdout, /^There was no kernel part/);
    assert.deepEqual(readdirSync(directory, { recursive: true }), before);
  });

  test('with --json, an error is an object on stdout, of every command; of connect and listen, on stderr', () => {
    const pins = ['--pins', directory];
    for (const [args, code, status] of [
      [['up', '--cgroup', '/none'], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['up', '--nonsense'], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['down', '--pins', ''], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['doctor', '--pins', ''], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['status', '--control', directory], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['connections'], 'ERR_TCPCRYPT_NOT_RUNNING', 1],
      [['paths'], 'ERR_TCPCRYPT_NOT_RUNNING', 1],
      [['paths', '--flush'], 'ERR_TCPCRYPT_NOT_RUNNING', 1],
      [['reload'], 'ERR_TCPCRYPT_NOT_RUNNING', 1],
      [['session-id'], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['session-id', '--tuple', '1.2.3.4:1', '1.2.3.4:2', ...pins], 'ERR_TCPCRYPT_KERNEL_ABSENT', 1],
      [['resumption', ...pins], 'ERR_TCPCRYPT_KERNEL_ABSENT', 1],
      [['policy', 'check', '/none'], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['policy', 'explain', '--to', '1.2.3.4', '--policy', '/none'], 'ERR_TCPCRYPT_ARGUMENT', 2],
      [['host-key', 'show', '/none'], 'ERR_TCPCRYPT_AUTH_KEY_FILE', 1],
      [['host-key', 'make', directory], 'ERR_TCPCRYPT_AUTH_KEY_FILE', 1],
    ] as const) {
      const { stdout, stderr, code: exit } = tcpcrypt(...args, '--json');
      const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
      assert.equal(error.code, code, args.join(' '));
      assert.ok(stderr.includes(error.message), 'people read it as well');
      assert.equal(exit, status, args.join(' '));
    }
    for (const args of [
      ['connect', '127.0.0.1', '1', '--json', '--auth-key', file],
      ['listen', '0', '--json', '--auth-key', file],
    ]) {
      const { stdout, stderr } = tcpcrypt(...args);
      assert.equal(stdout, '');
      assert.equal(JSON.parse(stderr).error.code, 'ERR_TCPCRYPT_AUTH_KEY_FILE');
    }
  });
});
