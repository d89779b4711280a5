/** What a session erases as soon as it has used it (RFC 8548 §3.3, §3.5); old traffic keys: session.test.ts, TC-43. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSsl } from '#src/crypto/openssl.js';
import { Session } from '#src/session/index.js';
import { SessionSecret } from '#src/session/key-schedule.js';
import { withCode } from '../support/code.js';
import { concat } from '../support/vectors.js';
import { fixedPair, fixedSession, keyPairOf, negotiated, Pair } from './pair.js';

test('TC-8: the key pair of a connection is erased when the secret is agreed, or cannot be any more', (context) => {
  const functions = openSsl();
  assert.ok(functions);
  const freed = context.mock.method(functions, 'freeKey').mock;
  const fresh = (role: 'A' | 'B') => new Session({ negotiated: negotiated(role) });
  new Pair(fresh('A'), fresh('B')).run(); // self-tests
  freed.resetCalls();

  const [a, b] = [fresh('A'), fresh('B')];
  b.handleData(concat(a.pollTransmit()));
  assert.equal(freed.callCount(), 1, 'that of B');
  a.handleData(concat(b.pollTransmit()));
  assert.equal(freed.callCount(), 2, 'that of A');
  for (const session of [a, b]) session.destroy();
  assert.equal(freed.callCount(), 2);

  const waiting = fresh('A');
  waiting.pollTransmit();
  waiting.destroy();
  assert.equal(freed.callCount(), 3, 'no Init2 came');
});

test('the shared secret of the key agreement is erased when the session secret is made', () => {
  const shared: Uint8Array[] = [];
  const pair = (role: 'A' | 'B') => () => {
    const own = keyPairOf(role);
    return {
      curve: own.curve,
      publicKey: own.publicKey,
      erase: () => {},
      agree: (peer: Uint8Array) => {
        const es = own.agree(peer);
        assert.ok(es.some((byte) => byte !== 0));
        shared.push(es);
        return es;
      },
    };
  };
  new Pair(fixedSession('A', { keyPair: pair('A') }), fixedSession('B', { keyPair: pair('B') })).run();
  assert.equal(shared.length, 2);
  for (const es of shared) assert.deepEqual(es, new Uint8Array(32));
});

test('TC-25: the session secret is erased when the keys are made, whether the next one is kept or not', (context) => {
  const made = context.mock.method(SessionSecret, 'ofKeyExchange').mock;
  for (const keepResumable of [false, true]) fixedPair(undefined, { keepResumable }).run();
  assert.equal(made.callCount(), 4);
  for (const { result } of made.calls) {
    assert.ok(result);
    assert.throws(() => result.sessionId(0x23, new Uint8Array()), withCode('ERR_TCPCRYPT_CLOSED'));
    assert.throws(() => result.exportNext(), withCode('ERR_TCPCRYPT_CLOSED'));
  }
});
