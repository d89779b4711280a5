/** The protocol core imports downwards only, and nothing that does input or output. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

const ALLOWED: { readonly [folder: string]: readonly string[] } = {
  wire: ['./', '../errors.js'],
  crypto: ['./', '../errors.js', 'node:crypto', 'node:module'],
  session: ['./', '../errors.js', '../wire/index.js', '../crypto/index.js', 'node:crypto'],
};

for (const [folder, allowed] of Object.entries(ALLOWED)) {
  test(`src/${folder} imports nothing but ${allowed.slice(1).join(', ')}`, () => {
    const directory = new URL(`../../src/${folder}/`, import.meta.url);
    const files = readdirSync(directory).filter((name) => name.endsWith('.ts'));
    assert.ok(files.length > 0);
    for (const name of files) {
      const source = readFileSync(new URL(name, directory), 'utf8');
      for (const [, target = ''] of source.matchAll(/\bfrom '([^']+)'|\bimport\('/g)) {
        const fits = allowed.some((prefix) =>
          prefix === './' ? target.startsWith('./') : target === prefix,
        );
        assert.ok(fits, `${folder}/${name} imports ${target}`);
      }
      assert.doesNotMatch(source, /\b(console|process|setTimeout|setInterval|Date)\b\s*[.(]/, name);
    }
  });
}
