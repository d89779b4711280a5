/** man/tcp_eno.7: clean for groff, and about every option of include/tcp_eno.h. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { shell } from './lab.js';

test('groff has nothing to complain about', () => {
  assert.equal(shell('groff -t -man -ww -z man/tcp_eno.7 2>&1'), '');
  assert.match(shell('groff -t -man -Tascii man/tcp_eno.7'), /TCP_ENO_SESSID/);
});

test('it describes every socket option of the header', () => {
  const page = readFileSync('man/tcp_eno.7', 'utf8');
  const header = readFileSync('include/tcp_eno.h', 'utf8');
  const options = [...header.matchAll(/^#define (TCP_(?:ENO|CRYPT)_\w+) (10\d\d)\b/gm)];
  assert.equal(options.length, 24);
  assert.deepEqual(
    options.map(([, name = '']) => name).filter((name) => !new RegExp(`\\b${name}\\b`).test(page)),
    [],
  );
  assert.deepEqual(
    options.map(([, , number]) => Number(number)),
    options.map((_, i) => 1026 + i),
  );
});
