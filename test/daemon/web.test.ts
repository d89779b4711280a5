/** curl and nginx, neither of which knows of tcpcrypt: 100 MiB down, and 100 MiB up. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Pair, PLACES, skip } from './support/pair.js';

const PORT = 8080;
const MIB = 1024 * 1024;

for (const place of PLACES)
  describe(`curl and nginx, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    let root: string;
    let file: string;
    let digest: string;

    before(async () => {
      pair = await Pair.open(place);
      root = join(pair.lab.directory, 'web');
      mkdirSync(root);
      file = join(root, 'file');
      const block = randomBytes(MIB);
      const content = Buffer.concat(Array.from({ length: 100 }, () => block));
      writeFileSync(file, content);
      digest = createHash('sha256').update(content).digest('hex');
      writeFileSync(
        join(root, 'nginx.conf'),
        `daemon off; user root; worker_processes 1; pid ${root}/pid; error_log ${root}/error.log;
events { worker_connections 64; }
http {
  access_log ${root}/access.log;
  client_body_temp_path ${root}/body; proxy_temp_path ${root}/proxy; fastcgi_temp_path ${root}/fastcgi;
  uwsgi_temp_path ${root}/uwsgi; scgi_temp_path ${root}/scgi;
  server { listen ${PORT}; root ${root}; client_max_body_size 200m; dav_methods PUT; }
}
`,
      );
      pair.bob.spawn('nginx', ['-c', join(root, 'nginx.conf'), '-e', join(root, 'error.log')], {
        stdio: 'ignore',
      });
      await pair.bob.waitForListener(PORT);
    });
    after(() => pair?.close());
    beforeEach(() => pair.forget());

    const url = (name: string): string => `http://${pair.bob.address4}:${PORT}/${name}`;

    test('100 MiB come down unchanged, and nginx logs the address of the client', async () => {
      const copy = join(pair.lab.directory, 'copy');
      const { code, stderr } = await pair.alice.run('curl', ['-sS', '-o', copy, url('file')], {
        timeoutMs: 60_000,
      });
      assert.equal(code, 0, stderr);
      assert.equal(await sha256(copy), digest);
      assert.equal(lastLine(join(root, 'access.log')).split(' ')[0], pair.alice.address4);
      await pair.assertRelayed(PORT);
    });

    test('100 MiB go up unchanged', async () => {
      const { code, stdout, stderr } = await pair.alice.run(
        'curl',
        ['-sS', '-T', file, '-w', '%{http_code}', url('upload')],
        { timeoutMs: 60_000 },
      );
      assert.equal(code, 0, stderr);
      assert.equal(String(stdout), '201');
      assert.equal(await sha256(join(root, 'upload')), digest);
      await pair.assertRelayed(PORT);
    });

    test('a connection that is kept alive carries several requests', async () => {
      const { code, stdout } = await pair.alice.run('curl', [
        ...['-sS', '-o', '/dev/null', '-o', '/dev/null', '-w', '%{num_connects}\n'],
        ...[url('nginx.conf'), url('nginx.conf')],
      ]);
      assert.equal(code, 0);
      assert.equal(String(stdout), '1\n0\n');
      await pair.assertRelayed(PORT);
    });
  });

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

const lastLine = (path: string): string => readFileSync(path, 'utf8').trim().split('\n').at(-1) ?? '';
