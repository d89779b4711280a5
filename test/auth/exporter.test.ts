import assert from 'node:assert/strict';
import { hkdfSync } from 'node:crypto';
import { test } from 'node:test';
import { exporter } from '#src/auth/index.js';
import { withCode } from '../support/code.js';
import { OTHER_SESSION_ID, SESSION_ID } from './support/pair.js';

test('the exporter is HKDF-SHA256, as node:crypto knows it', () => {
  const prefixed = (text: string) => Buffer.concat([Buffer.of(0, 0, 0, text.length), Buffer.from(text)]);
  for (const length of [1, 32, 33, 100]) {
    const info = Buffer.concat([prefixed('EXPORTER-scram'), prefixed('nonce')]);
    const expected = hkdfSync('sha256', SESSION_ID, 'tcpcrypt-auth/1 exporter', info, length);
    const actual = exporter(SESSION_ID, 'EXPORTER-scram', Buffer.from('nonce'), length);
    assert.deepEqual(actual, Buffer.from(expected));
  }
});

test('session, label and context make a difference, and do not run into one another', () => {
  const all = [
    exporter(SESSION_ID, 'ab', Buffer.from('c')),
    exporter(SESSION_ID, 'a', Buffer.from('bc')),
    exporter(SESSION_ID, 'abc'),
    exporter(OTHER_SESSION_ID, 'ab', Buffer.from('c')),
  ];
  assert.equal(new Set(all.map((bytes) => bytes.toString('hex'))).size, all.length);
});

test('wrong use of the API', () => {
  assert.throws(() => exporter(Buffer.alloc(0), 'a'), withCode('ERR_TCPCRYPT_NO_SESSION'));
  assert.throws(() => exporter(SESSION_ID, ''), withCode('ERR_TCPCRYPT_ARGUMENT'));
  for (const length of [0, 1.5, 8161]) {
    assert.throws(() => exporter(SESSION_ID, 'a', undefined, length), withCode('ERR_TCPCRYPT_ARGUMENT'));
  }
});
