/** TC-29 for the whole machine: the administrator lets all programs forget their sessions, or refuses resumption. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after, before, beforeEach, describe, test } from 'node:test';
import { connect, createServer, SessionCache } from '#src/index.js';
import { switchResumption } from '#src/kernel/resumption-switch.js';
import { KernelPart, needsRoot, TCPCRYPT } from './kernel-part.js';

describe('resumption by order of the administrator', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  const server = createServer({ mode: 'required', resumption: new SessionCache() }, (socket) => socket.end());
  let resumption: SessionCache;
  before(async () => {
    kernel = KernelPart.load();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(async () => {
    server.close();
    await kernel.unload();
  });
  beforeEach(() => {
    resumption = new SessionCache();
  });

  /** Whether a connection was resumed. */
  async function visit(cache = resumption): Promise<boolean> {
    const port = server.address()?.port ?? 0;
    const socket = connect({ port, host: '127.0.0.1', mode: 'required', resumption: cache });
    socket.resume().end();
    await once(socket, 'close');
    return socket.resumed;
  }

  test('TC-29: flushed: the next connection exchanges keys, the one after it is resumed again', async () => {
    assert.deepEqual([await visit(), await visit()], [false, true]);
    const { generation } = switchResumption(kernel.pins, {});
    assert.equal(switchResumption(kernel.pins, { flush: true }).generation, generation + 1);
    assert.deepEqual([await visit(), await visit()], [false, true]);
  });

  test('TC-29: flushed: a listener’s kernel part knows none of the old sessions', async () => {
    await visit();
    // A client that does not hear of it, as one on another machine: its cache is asked before the flush.
    const found = resumption.open([`127.0.0.1 ${server.address()?.port}`], { teps: [0x23], ciphers: [1] });
    assert.ok(found !== undefined);
    switchResumption(kernel.pins, { flush: true });
    const deaf = Object.assign(Object.create(Object.getPrototypeOf(resumption) as object), {
      open: () => found,
      settle: () => {},
      keep: () => undefined,
    }) as SessionCache;
    assert.equal(await visit(deaf), false);
  });

  test('TC-29: refused: no connection is resumed, and nothing is kept; allowed again', async () => {
    assert.deepEqual([await visit(), await visit()], [false, true]);
    assert.equal(switchResumption(kernel.pins, { allowed: false }).allowed, false);
    assert.deepEqual([await visit(), await visit()], [false, false]);
    assert.equal(resumption.size, 0);
    assert.equal(switchResumption(kernel.pins, { allowed: true }).allowed, true);
    assert.deepEqual([await visit(), await visit()], [false, true]);
  });

  test('the command: says how it is, does what it is told, refuses contradictions', () => {
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [TCPCRYPT, 'resumption', ...args], { encoding: 'utf8' });
    const here = ['--pins', kernel.pins];
    assert.match(run(...here).stdout, /^Sessions are resumed$/m);
    assert.match(run(...here, '--refuse').stdout, /not resumed, and all sessions are forgotten/);
    assert.equal(JSON.parse(run(...here, '--json').stdout).allowed, false);
    assert.match(run(...here, '--allow', '--flush').stdout, /are resumed, and all sessions are forgotten/);
    assert.equal(run(...here, '--allow', '--refuse').status, 2);
    const absent = run('--pins', `${kernel.pins}-nowhere`);
    assert.equal(absent.status, 1);
    assert.match(absent.stderr, /ERR_TCPCRYPT_KERNEL_ABSENT/);
  });
});
