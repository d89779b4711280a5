/** The programs of examples/, as their first lines say to run them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Pair, skip } from './support/pair.js';

const PORT = 7500;

/** A line of what a program prints; undefined at its end. */
function lines(output: Readable | null): () => Promise<string> {
  assert.ok(output !== null);
  const found = createInterface(output)[Symbol.asyncIterator]();
  return async () => {
    const { value } = await found.next();
    return String(value);
  };
}

describe('examples', { skip }, () => {
  let pair: Pair;
  let compiled: string;
  before(async () => {
    pair = await Pair.open('both ends');
    compiled = join(pair.lab.directory, 'session-id');
    const compiler = await pair.lab.router.run(
      'clang',
      ['-Wall', '-Wextra', '-Werror', '-I', 'include', '-o', compiled, 'examples/session-id.c'],
      { timeoutMs: 60_000 },
    );
    assert.equal(compiler.code, 0, compiler.stderr);
  });
  after(() => pair?.close());

  test('a client in C, a server in Python and a shell script say the same session ID', async () => {
    // Under a name of its own, as other programs in Python may run on this machine.
    const name = `noter-${process.pid}`;
    const python = join(pair.lab.directory, name);
    symlinkSync('/usr/bin/python3', python);
    const bin = join(pair.lab.directory, 'bin');
    mkdirSync(bin);
    const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
    writeFileSync(join(bin, 'tcpcrypt'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, {
      mode: 0o755,
    });
    const server = pair.bob.spawn(python, ['examples/log_session_ids.py', `${PORT}`]);
    const log = lines(server.stdout);
    await pair.bob.waitForListener(PORT);
    for (const options of [[], ['--mandatory']]) {
      const client = pair.alice.spawn(compiled, [...options, pair.bob.address4, `${PORT}`]);
      const id = await lines(client.stdout)();
      assert.match(id, /^[2a]3[0-9a-f]{64}$/);
      const [address, port, logged, aead] = (await log()).split(' ');
      assert.deepEqual([address, logged, aead], [pair.alice.address4, id, 'AES-128-GCM']);

      const { code, stdout, stderr } = await pair.bob.run(
        'sh',
        ['-c', 'PATH=$0:$PATH exec sh examples/session-ids-of.sh "$1"', bin, name],
        { timeoutMs: 30_000 },
      );
      assert.equal(code, 0, stderr);
      assert.equal(`${stdout}`, `${name} ${address}:${port} ${id}\n`);

      client.stdin?.end();
      const [exit] = (await once(client, 'close')) as [number];
      assert.equal(exit, 0);
    }
    server.kill();
  });

  test('without a daemon they say that the connection is plain, or have none', async () => {
    await pair.onAlice?.stop();
    const server = pair.bob.spawn('python3', ['examples/log_session_ids.py', `${PORT + 1}`]);
    const log = lines(server.stdout);
    await pair.bob.waitForListener(PORT + 1);
    const plain = await pair.alice.run(compiled, [pair.bob.address4, `${PORT + 1}`]);
    assert.deepEqual([plain.code, plain.stderr], [1, 'no session ID: the connection is plain\n']);
    assert.match(await log(), / plain$/);
    const none = await pair.alice.run(compiled, ['--mandatory', pair.bob.address4, `${PORT + 1}`], {
      timeoutMs: 30_000,
    });
    assert.equal(none.code, 1);
    server.kill();
  });
});
