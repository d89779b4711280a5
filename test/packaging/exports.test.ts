/** What `npm install tcpcrypt` gives a program: entries that can be imported, and types that a strict compiler accepts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../../..', import.meta.url));
const require = createRequire(import.meta.url);
const { exports, bin } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as {
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
};
const entries = Object.entries(exports).filter(([, entry]) => typeof entry === 'object') as [
  string,
  { types: string; default: string },
][];

for (const [path, { types }] of entries) {
  const name = join('tcpcrypt', path);
  test(`${name}: the same by import and by require, and with types`, async () => {
    const imported = (await import(name)) as Record<string, unknown>;
    const required = require(name) as Record<string, unknown>;
    assert.ok(Object.keys(imported).length > 0);
    for (const word of Object.keys(imported)) assert.equal(required[word], imported[word], word);
    assert.ok(existsSync(join(project, types)));
  });
}

test('commands are programs', () => {
  for (const file of Object.values(bin))
    assert.ok(readFileSync(join(project, file), 'utf8').startsWith('#!/usr/bin/env'), file);
});

test('the declarations are complete: a strict compiler that skips none of them has no objection', () => {
  // Within the package, so that it finds itself by name.
  const directory = mkdtempSync(join(project, 'build', 'consumer-'));
  try {
    const imports = entries.map(([path], i) => `import * as entry${i} from '${join('tcpcrypt', path)}';`);
    const uses = `
import { connect, createServer, type ErrorCode, SessionCache, type Socket, TcpcryptError } from 'tcpcrypt';
import { sharedKey, type Peer } from 'tcpcrypt/auth';
const auth = { offer: [sharedKey({ key: new Uint8Array(16), id: 'k' })] };
const server = createServer({ auth, resumption: new SessionCache({ limit: 5 }) }, (socket) => {
  const peer: Peer | undefined = socket.peer;
  const id: Uint8Array = socket.sessionId;
  socket.end(peer === undefined ? id : peer.name);
});
server.listen(0, '127.0.0.1', () => {
  const socket: Socket = connect({ port: server.address()?.port ?? 0, mode: 'required', auth });
  socket.on('error', (error) => {
    const code: ErrorCode | undefined = error instanceof TcpcryptError ? error.code : undefined;
    console.log(code);
  });
});
console.log(${entries.map((_, i) => `entry${i}`).join(', ')});
// @ts-expect-error: there is no such mode
connect({ port: 1, mode: 'perhaps' });
`;
    writeFileSync(join(directory, 'consumer.ts'), [...imports, uses].join('\n'));
    writeFileSync(
      join(directory, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: false,
          noEmit: true,
          module: 'nodenext',
          target: 'es2022',
          types: ['node'],
        },
        files: ['consumer.ts'],
      }),
    );
    const tsc = join(project, 'node_modules/.bin/tsc');
    try {
      execFileSync(tsc, ['--project', directory], { cwd: project, encoding: 'utf8' });
    } catch (error) {
      assert.fail((error as { stdout: string }).stdout);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
