/** The examples of docs/authentication.md, run as they stand there. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { authority, serverCertificate } from './support/ca.js';
import { type KernelPart, kernelPart } from './support/network.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const markdown = readFileSync(join(root, 'docs/authentication.md'), 'utf8');
// Below the package, so that `tcpcrypt/auth` is found as its users find it.
mkdirSync(join(root, 'build'), { recursive: true });
const directory = mkdtempSync(join(root, 'build/examples-'));

let kernel: KernelPart | undefined;
before(async () => {
  const ca = await authority();
  const { key, pem } = await serverCertificate(ca, { kind: 'rsa' });
  writeFileSync(join(directory, 'ca.pem'), ca.pem);
  writeFileSync(join(directory, 'chain.pem'), pem);
  writeFileSync(join(directory, 'key.pem'), key.export({ type: 'pkcs8', format: 'pem' }));
  kernel = kernelPart('docs');
});
after(async () => {
  await kernel?.undo();
  rmSync(directory, { recursive: true });
});

const EXAMPLE = /<!-- example: (\S+) -->\s+```js\n(.*?)```\s+```text\n(.*?)```/gs;
const examples = [...markdown.matchAll(EXAMPLE)];

test('there are examples', () => {
  assert.equal(examples.length, markdown.split('<!-- example:').length - 1);
  assert.ok(examples.length >= 5);
});

for (const [, name = '', code = '', output = ''] of examples) {
  test(`docs/authentication.md: ${name}`, async () => {
    const file = join(directory, `${name}.mjs`);
    writeFileSync(file, code);
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      timeout: 20_000,
      env: { ...process.env, CERTIFICATES: directory, TMPDIR: directory },
    });
    assert.equal(stdout, output);
  });
}
