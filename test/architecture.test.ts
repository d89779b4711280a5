/** The arrows of docs/architecture.md: which folder may import which. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const EVERYWHERE = ['errors.js', 'transient-map.js'];
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../src');

/** Folder of src/ → what it may import: other folders, and packages. `errors` and `transient-map` are allowed everywhere. */
const ALLOWED: Record<string, { readonly folders: readonly string[]; readonly packages: readonly string[] }> =
  {
    wire: { folders: [], packages: [] },
    crypto: { folders: [], packages: ['node:crypto', 'node:module'] },
    session: { folders: ['wire', 'crypto'], packages: ['node:crypto'] },
    kernel: {
      folders: [],
      packages: [
        'koffi',
        'node:child_process',
        'node:crypto',
        'node:fs',
        'node:net',
        'node:os',
        'node:path',
        'node:url',
        'node:util',
      ],
    },
    socket: {
      folders: ['session', 'kernel', 'auth'],
      packages: [
        'node:crypto',
        'node:dns',
        'node:dns/promises',
        'node:events',
        'node:net',
        'node:stream',
        'node:util',
      ],
    },
    auth: {
      folders: ['crypto'],
      packages: [
        '@noble/curves/ed25519.js',
        '@noble/curves/nist.js',
        'node:crypto',
        'node:fs',
        'node:fs/promises',
        'node:http',
        'node:net',
        'node:stream',
        'node:timers/promises',
        'node:tls',
        'node:util',
      ],
    },
    daemon: {
      folders: ['socket', 'kernel', 'session', 'auth'],
      packages: [
        'node:child_process',
        'node:crypto',
        'node:events',
        'node:fs',
        'node:http',
        'node:net',
        'node:path',
        'node:timers/promises',
        'node:util',
        'pino',
        'prom-client',
        'smol-toml',
        'valibot',
      ],
    },
    // Above everything: free.
    lab: { folders: ['kernel'], packages: ['*'] },
    demo: { folders: ['lab', 'kernel', 'wire', 'socket'], packages: ['*'] },
    cli: { folders: ['daemon', 'socket', 'session', 'kernel', 'auth', 'demo'], packages: ['*'] },
  };

interface Import {
  readonly file: string;
  readonly target: string;
}

function importsOf(folder: string): Import[] {
  const imports: Import[] = [];
  for (const name of readdirSync(join(root, folder), { recursive: true }).map(String)) {
    if (!name.endsWith('.ts')) continue;
    const file = join(root, folder, name);
    const source = readFileSync(file, 'utf8');
    for (const [, target] of source.matchAll(/^(?:import|export)\b[^;]*?from '([^']+)';/gms)) {
      if (target === undefined) continue;
      const place = target.startsWith('.') ? relative(root, resolve(dirname(file), target)) : target;
      imports.push({ file: relative(root, file), target: place });
    }
  }
  return imports;
}

test('every folder of src/ has its place in the picture', () => {
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.deepEqual(folders.map(({ name }) => name).sort(), Object.keys(ALLOWED).sort());
});

for (const [folder, { folders, packages }] of Object.entries(ALLOWED)) {
  test(`src/${folder} imports only what the arrows allow`, () => {
    const imports = importsOf(folder);
    assert.ok(imports.length > 0);
    const forbidden = imports.filter(({ target }) => {
      if (EVERYWHERE.includes(target) || packages.includes(target)) return false;
      const [first = ''] = target.split('/');
      if (!target.includes('.js')) return !packages.includes('*');
      return first !== folder && !folders.includes(first);
    });
    assert.deepEqual(forbidden, []);
  });
}

for (const folder of ['wire', 'crypto', 'session']) {
  test(`src/${folder} knows no clock, no process and no console`, () => {
    for (const name of readdirSync(join(root, folder))) {
      const source = readFileSync(join(root, folder, name), 'utf8');
      assert.doesNotMatch(
        source,
        /\b(console|process|setTimeout|setInterval|Date|performance)\b\s*[.(]/,
        name,
      );
    }
  });
}
