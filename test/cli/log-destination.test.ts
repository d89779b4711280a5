import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const module = new URL('../../../dist/cli/log-destination.js', import.meta.url);

/** What a program with the lines of `body` leaves on its standard output. */
function output(body: string): string[] {
  const program = `const { logDestination } = await import(${JSON.stringify(module.href)}); const log = logDestination(); ${body}`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
  });
  assert.equal(stderr, '');
  return stdout.split('\n').slice(0, -1);
}

test('lines come in order, also those of the turn in which the process exits', () => {
  const said = output(`
    log.write('one\\n'); log.write('two\\n');
    setTimeout(() => { log.write('three\\n'); process.exit(); }, 20);`);
  assert.deepEqual(said, ['one', 'two', 'three']);
});

test('more of them than wait for the end of the turn', () => {
  const said = output(`for (let i = 0; i < 20000; i++) log.write(i + ' '.repeat(80) + '\\n');`);
  assert.equal(said.length, 20_000);
  assert.ok(said.every((line, index) => Number(line) === index));
});
