import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { networkOf } from '#src/daemon/endpoint.js';
import {
  FAILURE_LIFETIME,
  KNOWN,
  NEW,
  PathMemory,
  type PathResult,
  SUCCESS_LIFETIME,
  SUSPICIOUS_ADDRESSES,
} from '#src/daemon/path-memory.js';

const A = '10.0.0.1';

/** One attempt that is over at once. */
const learn = (memory: PathMemory, result: PathResult, now: number, address = A, port = 80): void =>
  memory.learn(address, port, result, now, now);

describe('destinations', () => {
  test('left in peace after one failure, for a while; no other port or address is', () => {
    const memory = new PathMemory();
    learn(memory, 'plain', 0);
    assert.ok(memory.isPlain(A, 80, NEW.first - 1));
    assert.ok(!memory.isPlain(A, 80, NEW.first));
    assert.ok(!memory.isPlain(A, 81, 1));
    assert.ok(!memory.isPlain('10.0.0.2', 80, 1));
  });

  for (const result of ['plain', 'drops-option', 'kills-ciphertext'] as const)
    test(`${result}: the while doubles with each failure in a row, up to the limit`, () => {
      const memory = new PathMemory();
      let now = 0;
      const pauses: number[] = [];
      for (let i = 0; i < 6; i++) {
        learn(memory, result, now);
        const [entry] = memory.list(now).filter(({ kind }) => kind === 'destination');
        pauses.push((entry?.quietSeconds ?? 0) * 1000);
        now += pauses.at(-1) ?? 0;
        assert.ok(!memory.isPlain(A, 80, now));
      }
      assert.deepEqual(pauses, [60_000, 120_000, 240_000, 480_000, 600_000, 600_000]);
      learn(memory, 'encrypted', now);
      assert.ok(!memory.isPlain(A, 80, now));
      assert.equal(memory.list(now)[0]?.failures, 0);
    });

  test('of several attempts at the same time, one failure counts', () => {
    const memory = new PathMemory();
    for (let i = 0; i < 50; i++) memory.learn(A, 80, 'plain', 0, 10 + i);
    assert.equal(memory.list(60)[0]?.failures, 1);
    memory.learn(A, 80, 'plain', NEW.first + 100, NEW.first + 110);
    assert.equal(memory.list(NEW.first + 110)[0]?.failures, 2);
  });

  test('one that has encrypted before is asked by every connection until it failed several times in a row', () => {
    const memory = new PathMemory();
    learn(memory, 'encrypted', 0);
    for (let i = 1; i <= KNOWN.tolerated; i++) {
      learn(memory, 'plain', i);
      assert.ok(!memory.isPlain(A, 80, i));
    }
    learn(memory, 'plain', 10);
    assert.ok(memory.isPlain(A, 80, 10 + KNOWN.first - 1));
    assert.ok(!memory.isPlain(A, 80, 10 + KNOWN.first));
  });

  test('failures are forgotten; that it encrypted is remembered longer', () => {
    const memory = new PathMemory();
    learn(memory, 'plain', 0);
    assert.equal(memory.list(FAILURE_LIFETIME).length, 0);
    learn(memory, 'encrypted', 0);
    learn(memory, 'plain', FAILURE_LIFETIME);
    assert.equal(memory.list(SUCCESS_LIFETIME - 1)[0]?.encryptedBefore, true);
    assert.equal(memory.list(SUCCESS_LIFETIME).length, 0);
  });

  test('no more than so many are remembered: the one that was heard of longest ago goes first', () => {
    const memory = new PathMemory(2);
    learn(memory, 'plain', 0, '10.0.0.1');
    learn(memory, 'plain', 1, '10.0.0.2');
    learn(memory, 'plain', 2, '10.0.0.1');
    learn(memory, 'plain', 3, '10.0.0.3');
    assert.equal(memory.size, 2);
    assert.ok(memory.isPlain('10.0.0.1', 80, 4));
    assert.ok(!memory.isPlain('10.0.0.2', 80, 4));
  });

  test('flush forgets all, or one address with its network', () => {
    const memory = new PathMemory();
    for (const address of ['10.0.0.1', '10.0.1.1']) {
      learn(memory, 'drops-option', 0, address, 80);
      learn(memory, 'drops-option', 0, address, 81);
    }
    assert.equal(memory.flush('10.0.0.1'), 3);
    assert.equal(memory.list(1).length, 3);
    assert.equal(memory.flush(), 3);
    assert.deepEqual(memory.list(1), []);
  });

  test('list tells what JSON and people want to know', () => {
    const memory = new PathMemory();
    learn(memory, 'kills-ciphertext', 0, 'fd00::1', 25);
    assert.deepEqual(memory.list(1500), [
      {
        kind: 'network',
        network: 'fd00::/48',
        last: 'kills-ciphertext',
        failures: 1,
        quietSeconds: 0,
        forgottenInSeconds: 3599,
      },
      {
        kind: 'destination',
        address: 'fd00::1',
        port: 25,
        last: 'kills-ciphertext',
        encryptedBefore: false,
        failures: 1,
        quietSeconds: 59,
        forgottenInSeconds: 3599,
      },
    ]);
  });
});

describe('networks', () => {
  test('/24 and /48', () => {
    assert.equal(networkOf('192.0.2.77'), '192.0.2.0/24');
    assert.equal(networkOf('2001:db8:1:2:3:4:5:6'), '2001:db8:1::/48');
  });

  test('suspected after failures of the path at several addresses, and never left in peace for it', () => {
    for (const result of ['drops-option', 'kills-ciphertext'] as const) {
      const memory = new PathMemory();
      for (let host = 1; host <= SUSPICIOUS_ADDRESSES; host++) {
        assert.equal(memory.suspicion('10.0.0.99', 80, 0), undefined);
        learn(memory, result, 0, `10.0.0.${host}`);
        learn(memory, result, 0, `10.0.0.${host}`, 81);
      }
      assert.equal(memory.suspicion('10.0.0.99', 80, 0), result);
      assert.equal(memory.suspicion('10.0.1.99', 80, 0), undefined);
      assert.ok(!memory.isPlain('10.0.0.99', 80, 0));
      assert.equal(memory.suspicion('10.0.0.99', 80, FAILURE_LIFETIME), undefined);
    }
  });

  test('one encrypted connection clears it; hosts that do not encrypt say nothing about the path', () => {
    const memory = new PathMemory();
    for (let host = 1; host <= SUSPICIOUS_ADDRESSES; host++)
      learn(memory, 'drops-option', 0, `10.0.0.${host}`);
    learn(memory, 'plain', 0, '10.0.0.50');
    assert.equal(memory.suspicion('10.0.0.99', 80, 0), 'drops-option');
    learn(memory, 'encrypted', 0, '10.0.0.51');
    assert.equal(memory.suspicion('10.0.0.99', 80, 0), undefined);
  });

  test('does not concern a destination that has encrypted before', () => {
    const memory = new PathMemory();
    learn(memory, 'encrypted', 0, '10.0.0.99');
    for (let host = 1; host <= SUSPICIOUS_ADDRESSES; host++)
      learn(memory, 'drops-option', 0, `10.0.0.${host}`);
    assert.equal(memory.suspicion('10.0.0.99', 80, 0), undefined);
  });
});

describe('an attacker who strips the option from whatever asks', () => {
  /** Connections at all times; @returns milliseconds of plaintext after he has gone, and how often he had to act */
  function aftermath(encryptedBefore: boolean, activeFor: number): { plain: number; strips: number } {
    const memory = new PathMemory();
    if (encryptedBefore) learn(memory, 'encrypted', 0);
    let strips = 0;
    for (let now = 1; ; now += 250) {
      if (memory.isPlain(A, 80, now)) continue;
      if (now > activeFor) return { plain: now - activeFor, strips };
      learn(memory, 'plain', now);
      strips++;
    }
  }

  test('once: encryption is back after a minute; at once where it was before', () => {
    assert.ok(aftermath(false, 1).plain <= NEW.first + 250);
    assert.ok(aftermath(true, 1).plain <= 250);
  });

  test('however long: it is back after the limit, and he must act again before it is over', () => {
    for (const hours of [1, 24, 24 * 6]) {
      const activeFor = hours * 3_600_000;
      const unknown = aftermath(false, activeFor);
      assert.ok(unknown.plain <= NEW.limit + 250);
      assert.ok(unknown.strips >= activeFor / NEW.limit);
      const known = aftermath(true, activeFor);
      assert.ok(known.plain <= KNOWN.limit + 250);
      assert.ok(known.strips >= activeFor / KNOWN.limit);
    }
  });
});
