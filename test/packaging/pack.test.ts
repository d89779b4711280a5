/** `npm pack`, and so `npm publish`: the package is what the sources say, whatever earlier builds have left. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../../..', import.meta.url));

test('what a former build has left in dist is not in the package', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-pack-'));
  try {
    // With what the compiler believes to have done, as in a tree that was built before.
    const left = ['node_modules', '.git', 'dist', 'build'];
    cpSync(project, directory, {
      recursive: true,
      filter: (path) => !left.includes(relative(project, path)),
    });
    symlinkSync(join(project, 'node_modules'), join(directory, 'node_modules'));
    mkdirSync(join(directory, 'build'));
    cpSync(join(project, 'build/src.tsbuildinfo'), join(directory, 'build/src.tsbuildinfo'));
    cpSync(join(project, 'dist'), join(directory, 'dist'), { recursive: true });
    writeFileSync(join(directory, 'dist/cli/gone.js'), '');
    const output = execFileSync('npm', ['pack', '--dry-run', '--json'], {
      cwd: directory,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // What the scripts say comes before.
    const [{ files }] = JSON.parse(output.slice(output.search(/^\[/m))) as [{ files: { path: string }[] }];
    const paths = files.map(({ path }) => path);
    for (const needed of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'dist/bpf/eno.bpf.o'])
      assert.ok(paths.includes(needed), needed);
    assert.ok(!paths.includes('dist/cli/gone.js'));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
