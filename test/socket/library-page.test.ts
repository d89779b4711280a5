/** The examples of docs/library.md, run as they are printed there. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import { ERRORS } from '#src/index.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import { needsRoot } from './kernel-part.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const page = readFileSync(join(root, 'docs/library.md'), 'utf8');
/** File name → program. */
const examples = new Map(
  [...page.matchAll(/^```js\n\/\/ (\S+)\n(.*?)^```$/gms)].map(([, name = '', program = '']) => [
    name,
    program,
  ]),
);

describe('docs/library.md', () => {
  test('every example has a name, and runs below', () => {
    assert.equal(examples.size, page.split('```js').length - 1);
    const names = ['server.mjs', 'client.mjs', 'required.mjs', 'authenticated.mjs', 'patience.mjs'];
    assert.deepEqual([...examples.keys()], names);
  });

  test('the codes it names exist', () => {
    const codes = [...page.matchAll(/ERR_TCPCRYPT_[A-Z_]*[A-Z](?!…)\b/g)].map(([code]) => code);
    assert.ok(codes.length > 8);
    for (const code of codes)
      assert.ok(code in ERRORS || Object.keys(ERRORS).some((known) => known.startsWith(`${code}_`)), code);
  });

  describe('its examples', { skip: needsRoot }, () => {
    let lab: Lab;
    let host: Host;
    let stranger: Host;
    let undo: () => Promise<void>;
    let directory: string;
    let printed = '';
    before(async () => {
      // Below the package, so that 'tcpcrypt' is this package.
      directory = mkdtempSync(join(root, 'build/examples-'));
      for (const [name, program] of examples) writeFileSync(join(directory, name), program);
      lab = await Lab.create();
      host = lab.host('host');
      stranger = lab.host('stranger');
      undo = loadKernelPart(host).undo;
      const server = host.spawn(process.execPath, [join(directory, 'server.mjs')]);
      server.stdout?.on('data', (data) => {
        printed += data;
      });
      server.stderr?.pipe(process.stderr);
      stranger.spawn(process.execPath, [join(directory, 'server.mjs')], { stdio: 'ignore' });
      await Promise.all([host.waitForListener(7000), stranger.waitForListener(7000)]);
    });
    after(async () => {
      await lab.destroy();
      await undo();
      rmSync(directory, { recursive: true });
    });

    test('client and server', { timeout: 20_000 }, async () => {
      const { code, stdout } = await host.run(process.execPath, [join(directory, 'client.mjs')]);
      assert.equal(code, 0);
      const [, id] = /^session (23[0-9a-f]{64})\nhello\n$/.exec(stdout.toString()) ?? [];
      assert.ok(id, stdout.toString());
      assert.ok(printed.includes(`session ${id}\n`));
    });

    test('never in plaintext', { timeout: 20_000 }, async () => {
      const program = [join(directory, 'required.mjs')];
      const { stdout } = await host.run(process.execPath, program);
      assert.equal(stdout.toString(), 'for nobody else\n');
      const { stdout: nothing, stderr } = await stranger.run(process.execPath, program);
      assert.equal(nothing.length, 0);
      assert.match(stderr, /^ERR_TCPCRYPT_KERNEL_ABSENT .*run "tcpcrypt up" as root/);
    });

    test('only with whom you know', { timeout: 20_000 }, async () => {
      const program = [join(directory, 'authenticated.mjs')];
      const { code, stdout, stderr } = await host.run(process.execPath, program);
      assert.deepEqual([code, stdout.toString(), stderr], [0, 'hello replica\n', '']);
    });

    test('waiting no longer than needed', { timeout: 20_000 }, async () => {
      for (const where of [host, stranger]) {
        const { code, stdout, stderr } = await where.run(process.execPath, [join(directory, 'patience.mjs')]);
        assert.deepEqual([code, stdout.toString(), stderr], [0, 'quick\n', '']);
      }
    });
  });
});
