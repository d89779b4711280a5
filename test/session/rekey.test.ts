/** Rekeying (RFC 8548 §3.8): who moves when, and which frames show it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Session } from '#src/session/index.js';
import { concat } from '../support/vectors.js';
import { fixedPair } from './pair.js';

const byte = (value: number): Uint8Array => Uint8Array.of(value);

/** Headers of the frames that a session wants to send now: rekey bit and data length. */
function frames(session: Session, take: (wire: Uint8Array) => void = () => {}): string[] {
  const wire = concat(session.pollTransmit());
  take(wire);
  const found: string[] = [];
  for (let at = 0; at < wire.length; ) {
    const clen = ((wire[at + 1] ?? 0) << 8) | (wire[at + 2] ?? 0);
    found.push(`${wire[at]}:${clen - 17}`);
    at += 3 + clen;
  }
  return found;
}

/** What `from` sends now, given to `to`. */
function exchange(from: Session, to: Session): string[] {
  return frames(from, (wire) => to.handleData(wire));
}

function open(rekeyAfterBytes = 2 ** 36): { a: Session; b: Session } {
  const pair = fixedPair(undefined, { rekeyAfterBytes }).run();
  return { a: pair.a.session, b: pair.b.session };
}

function drained(session: Session): string[] {
  const found: string[] = [];
  for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent())
    found.push(event.type === 'rekeyed' ? `rekeyed ${event.generation}` : event.type);
  return found;
}

test('TC-39, TC-40, TC-44: a rekey sends one empty frame at once, and the peer answers with one', () => {
  const { a, b } = open();
  a.rekey();
  assert.deepEqual(exchange(a, b), ['1:0']);
  assert.deepEqual(drained(b), ['rekeyed 1']);
  assert.deepEqual(exchange(b, a), ['1:0']);
  assert.deepEqual(drained(a), ['rekeyed 1']);
  assert.deepEqual(exchange(a, b), []);
  a.write(byte(1));
  b.write(byte(2));
  assert.deepEqual(exchange(a, b), ['0:1']);
  assert.deepEqual(exchange(b, a), ['0:1']);
});

test('TC-39: queued data travel on the first frame of the generation; only that one has rekey=1', () => {
  const { a, b } = open();
  a.write(new Uint8Array(5000));
  a.write(byte(1));
  a.rekey();
  assert.deepEqual(exchange(a, b), ['1:5000', '0:1']);
  b.write(byte(1));
  assert.deepEqual(exchange(b, a), ['1:1'], 'the answer may carry data, too');
});

test('both ends rekey at once: no further answers', () => {
  const { a, b } = open();
  a.rekey();
  b.rekey();
  const fromA = concat(a.pollTransmit());
  const fromB = concat(b.pollTransmit());
  a.handleData(fromB);
  b.handleData(fromA);
  assert.deepEqual(frames(a), []);
  assert.deepEqual(frames(b), []);
  a.write(byte(1));
  assert.deepEqual(exchange(a, b), ['0:1']);
});

test('TC-41: without data, a second rekey waits for the answer to the first; with data it does not', () => {
  const { a, b } = open();
  a.rekey();
  a.rekey();
  const first = concat(a.pollTransmit());
  assert.equal(first.length, 20);
  a.rekey();
  assert.deepEqual(frames(a), []);
  a.write(byte(1));
  a.rekey();
  b.handleData(first);
  assert.deepEqual(exchange(a, b), ['1:1']);
  assert.deepEqual(exchange(b, a), ['1:0', '1:0'], 'one answer for each generation: none can be skipped');
  assert.deepEqual(drained(a), ['rekeyed 1', 'rekeyed 2']);
  a.rekey();
  assert.deepEqual(exchange(a, b), ['1:0']);
});

test('TC-41: two rekeys before the next frame are one, with data, too: the second frame would have none', () => {
  const { a, b } = open();
  a.write(byte(1));
  a.rekey();
  a.rekey();
  assert.deepEqual(exchange(a, b), ['1:1']);
  assert.deepEqual(exchange(b, a), ['1:0']);
});

test('TC-40: no answer after FINp, and an answer can be on the FINp frame', () => {
  const { a, b } = open();
  a.rekey();
  const wire = concat(a.pollTransmit());
  b.end();
  b.handleData(wire);
  assert.deepEqual(exchange(b, a), ['1:0']);
  assert.deepEqual(drained(a), ['rekeyed 1', 'end']);
  a.rekey();
  assert.deepEqual(exchange(a, b), ['1:0'], 'an unanswered rekey is possible once');
  assert.deepEqual(frames(b), []);
  a.rekey();
  assert.deepEqual(frames(a), []);
  a.end();
  assert.deepEqual(exchange(a, b), ['0:0']);
  assert.equal(a.state, 'closed');
  a.rekey();
  assert.deepEqual(frames(a), []);
});

test('TC-36: generations that are owed go before the FINp frame', () => {
  const { a, b } = open();
  for (let i = 0; i < 3; i++) {
    a.write(byte(i));
    a.rekey();
    b.handleData(concat(a.pollTransmit()));
  }
  b.end(byte(1));
  assert.deepEqual(exchange(b, a), ['1:1', '1:0', '1:0']);
  assert.deepEqual(drained(a), ['rekeyed 1', 'data', 'rekeyed 2', 'rekeyed 3', 'end']);
});

test('TC-40: answers that pile up are given some at a time, and every one is given', () => {
  const { a, b } = open();
  for (let i = 0; i < 1000; i++) {
    a.write(byte(i));
    a.rekey();
    b.handleData(concat(a.pollTransmit()));
  }
  let answers = 0;
  for (let some = exchange(b, a); some.length > 0; some = exchange(b, a)) {
    assert.ok(some.length <= 256, `${some.length} at once`);
    answers += some.length;
    assert.equal(b.owesFrame, answers < 1000);
  }
  assert.equal(answers, 1000);
  b.write(byte(1));
  assert.deepEqual(exchange(b, a), ['0:1'], 'both are in the same generation');
});

test('TC-33: a sender rekeys by itself, long before the limit of a key', () => {
  const { a, b } = open(100);
  const sent: string[] = [];
  for (let i = 0; i < 6; i++) {
    a.write(new Uint8Array(20));
    sent.push(...exchange(a, b));
  }
  assert.deepEqual(sent, ['0:20', '0:20', '1:20', '0:20', '1:20', '0:20']);
  assert.deepEqual(exchange(b, a), ['1:0', '1:0']);
});

test('a rekey before there are keys is not needed', () => {
  const pair = fixedPair();
  pair.a.session.rekey();
  pair.run();
  assert.deepEqual(pair.b.events, ['secure']);
});
