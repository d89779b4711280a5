import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nodeAead } from '#src/crypto/index.js';
import { MAX_FRAME_DATA, Session, type SessionOptions } from '#src/session/index.js';
import { AEADS, type AeadId, SECRET_LENGTH, TEPS, type TepId } from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { concat, toHex } from '../support/vectors.js';
import { fixedPair, fixedSession, keyPairOf, negotiated, Pair } from './pair.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const ids = <Id extends number>(table: { readonly [id in Id]: unknown }): Id[] =>
  Object.keys(table).map(Number) as Id[];

for (const tep of ids<TepId>(TEPS))
  for (const cipher of ids<AeadId>(AEADS))
    test(`ENO-56, TC-45: ${TEPS[tep].name} with ${AEADS[cipher].name}: data both ways, session IDs equal`, () => {
      const options = { ciphers: [cipher] };
      const pair = new Pair(
        new Session({ negotiated: negotiated('A', tep), ...options }),
        new Session({ negotiated: negotiated('B', tep), ...options }),
      );
      pair.a.session.end(text('from A'));
      pair.b.session.end(text('from B'));
      pair.run();
      assert.equal(pair.b.receivedBytes.toString(), text('from A').toString());
      assert.equal(pair.a.receivedBytes.toString(), text('from B').toString());
      for (const { session, events } of [pair.a, pair.b]) {
        assert.deepEqual(events, ['secure', 'end']);
        assert.equal(session.state, 'closed');
        assert.equal(session.cipher, cipher);
        assert.equal(session.tep, tep);
        assert.equal(session.resumed, false);
        assert.equal(session.sessionId?.length, 33);
        assert.equal(session.sessionId?.[0], tep);
      }
      assert.deepEqual(pair.a.session.sessionId, pair.b.session.sessionId);
    });

test('ENO-50, ENO-52: every cipher is an AEAD; an identifier that is not in the table cannot be configured', () => {
  assert.deepEqual(
    ids<AeadId>(AEADS).map((id) => AEADS[id].name),
    ['AES-128-GCM', 'AES-256-GCM', 'CHACHA20-POLY1305'],
  );
  for (const cipher of [0, 3, 0x11, 0xffff])
    assert.throws(
      () => fixedSession('A', { ciphers: [cipher as AeadId] }),
      withCode('ERR_TCPCRYPT_ARGUMENT'),
    );
});

test('ENO-51, TC-49: at least 120 bits of strength everywhere', () => {
  const strength = { 'P-256': 128, 'P-521': 256, X25519: 126, X448: 223 };
  for (const tep of ids<TepId>(TEPS)) assert.ok(strength[TEPS[tep].curve] >= 120);
  for (const id of ids<AeadId>(AEADS)) {
    assert.ok(AEADS[id].keyLength * 8 >= 120);
    assert.ok(AEADS[id].tagLength * 8 >= 120);
  }
  assert.ok(SECRET_LENGTH >= 32);
});

test('ENO-53, TC-8: each connection has a key pair of its own, unless it is given one', () => {
  const publicKeys = Array.from({ length: 20 }, () => {
    const a = new Session({ negotiated: negotiated('A') });
    const init1 = concat(a.pollTransmit());
    const b = new Session({ negotiated: negotiated('B') });
    b.handleData(init1);
    return [init1, concat(b.pollTransmit())].map((init) => toHex(init.subarray(-32)));
  });
  assert.equal(new Set(publicKeys.flat()).size, 2 * 20);
});

test('ENO-58: the session ID depends on the nonces and key pairs of both ends, and on the transcript', () => {
  const fixed = (role: 'A' | 'B', options: Partial<SessionOptions> = {}) => fixedSession(role, options);
  const id = (a: Session, b: Session): string => {
    const pair = new Pair(a, b).run();
    assert.deepEqual(pair.a.session.sessionId, pair.b.session.sessionId);
    return toHex(pair.a.session.sessionId ?? new Uint8Array());
  };
  const nonce = (size: number) => new Uint8Array(size).fill(99);
  const transcript = (role: 'A' | 'B') => ({
    ...negotiated(role),
    transcript: Uint8Array.of(69, 4, 0x21, 0x23, 69, 4, 1, 0x23),
  });
  const all = [
    id(fixed('A'), fixed('B')),
    id(fixed('A', { random: nonce }), fixed('B')),
    id(fixed('A'), fixed('B', { random: nonce })),
    id(fixed('A', { keyPair: () => keyPairOf('B') }), fixed('B')),
    id(fixed('A'), fixed('B', { keyPair: () => keyPairOf('A') })),
    id(fixed('A', { negotiated: transcript('A') }), fixed('B', { negotiated: transcript('B') })),
  ];
  assert.equal(new Set(all).size, all.length);
  assert.equal(id(fixed('A'), fixed('B')), all[0]);
});

test('ENO-57: two connections never have the same session ID', () => {
  const id = () => {
    const pair = new Pair(
      new Session({ negotiated: negotiated('A') }),
      new Session({ negotiated: negotiated('B') }),
    );
    return toHex(pair.run().a.session.sessionId ?? new Uint8Array());
  };
  assert.notEqual(id(), id());
});

test('ENO-57: nor can a peer bring that about that repeats itself, towards an end that uses its key pair again', () => {
  for (const honest of ['A', 'B'] as const) {
    const id = () => {
      const ours = new Session({ negotiated: negotiated(honest), keyPair: () => keyPairOf(honest) });
      const cheat = fixedSession(honest === 'A' ? 'B' : 'A');
      const pair = (honest === 'A' ? new Pair(ours, cheat) : new Pair(cheat, ours)).run();
      assert.deepEqual(pair.a.session.sessionId, pair.b.session.sessionId);
      return toHex(ours.sessionId ?? new Uint8Array());
    };
    assert.notEqual(id(), id());
  }
});

test('ENO-49: ends that saw different ENO options do not understand each other', () => {
  const other = { ...negotiated('B'), transcript: Uint8Array.of(69, 4, 0x21, 0x23, 69, 4, 1, 0x23) };
  const pair = new Pair(fixedSession('A'), fixedSession('B', { negotiated: other }));
  pair.a.session.write(text('secret'));
  assert.throws(() => pair.run(), withCode('ERR_TCPCRYPT_FRAME_AUTH'));
  assert.notDeepEqual(pair.a.session.sessionId, pair.b.session.sessionId);
});

test('TC-13: B chooses by its own preference among what A offers', () => {
  const pair = new Pair(fixedSession('A', { ciphers: [1, 2, 16] }), fixedSession('B', { ciphers: [16, 1] }));
  pair.run();
  assert.equal(pair.a.session.cipher, 16);
  assert.equal(pair.b.session.cipher, 16);
});

test('TC-14: B sends frames right behind Init2, A right after receiving it', () => {
  const pair = fixedPair();
  pair.a.session.write(text('early A'));
  pair.b.session.write(text('early B'));
  assert.equal(pair.a.session.bufferedAmount, 7);
  assert.equal(pair.a.session.state, 'exchanging');
  assert.equal(pair.a.session.sessionId, undefined);
  pair.run();
  assert.equal(pair.b.wire.length, 2, 'Init2 and a frame');
  assert.deepEqual(pair.a.receivedBytes, text('early B'));
  assert.deepEqual(pair.b.receivedBytes, text('early A'));
  assert.equal(pair.a.session.bufferedAmount, 0);
});

test('TC-6: an Init message is a write of its own, whatever waits behind it: its last byte is pushed', () => {
  const { a, b } = fixedPair();
  a.session.end(new Uint8Array(100_000));
  b.session.end(new Uint8Array(100_000));
  const first = concat(a.session.pollTransmit());
  assert.equal(first.length, 75);
  assert.deepEqual(a.session.pollTransmit(), []);
  b.session.handleData(first);
  const second = concat(b.session.pollTransmit());
  assert.equal(second.length, 74);
  assert.equal(b.session.transmitEnded, false);
  assert.equal(concat(b.session.pollTransmit()).length, 100_000 + 2 * 20);
  assert.equal(b.session.transmitEnded, true);
  assert.deepEqual(b.session.pollTransmit(), []);
});

test('TC-36: FINp is on the frame of the last data, or on an empty one', () => {
  const withData = fixedPair();
  withData.a.session.end(text('all'));
  withData.run();
  assert.equal(concat(withData.a.wire).length, 75 + 3 + 1 + 3 + 16);
  assert.equal(withData.a.session.transmitEnded, true);
  const without = fixedPair().run();
  without.a.session.end();
  without.run();
  assert.equal(concat(without.a.wire).length, 75 + 20);
  assert.deepEqual(without.b.events, ['secure', 'end']);
});

test('TC-37: half-close: after our FINp we still receive, after the peer’s we still send', () => {
  const pair = fixedPair().run();
  pair.a.session.end(text('bye'));
  pair.run();
  assert.equal(pair.a.session.state, 'open');
  assert.deepEqual(pair.b.events, ['secure', 'end']);
  pair.b.session.write(text('still here'));
  pair.run();
  assert.deepEqual(pair.a.receivedBytes, text('still here'));
  pair.b.session.end();
  pair.run();
  assert.equal(pair.a.session.state, 'closed');
  assert.equal(pair.b.session.state, 'closed');
});

test('the end of the stream may be requested before there are keys', () => {
  const pair = fixedPair();
  pair.b.session.end();
  pair.a.session.end();
  pair.run();
  assert.equal(pair.a.session.state, 'closed');
  assert.throws(() => pair.a.session.write(text('x')), withCode('ERR_TCPCRYPT_CLOSED'));
  assert.throws(() => pair.a.session.end(text('x')), withCode('ERR_TCPCRYPT_CLOSED'));
  pair.a.session.end();
});

test('TC-31: a write longer than a frame is cut in equal parts; small ones that wait together share a frame', () => {
  const pair = fixedPair().run();
  const frames = (write: () => void): number => {
    const before = concat(pair.a.wire).length;
    const received = pair.b.receivedBytes.length;
    write();
    pair.run();
    return (concat(pair.a.wire).length - before - (pair.b.receivedBytes.length - received)) / 20;
  };
  assert.equal(
    frames(() => pair.a.session.write(new Uint8Array(MAX_FRAME_DATA))),
    1,
  );
  assert.equal(
    frames(() => pair.a.session.write(new Uint8Array(MAX_FRAME_DATA + 1))),
    2,
  );
  assert.equal(
    frames(() => {
      for (let i = 0; i < 100; i++) pair.a.session.write(new Uint8Array(10));
    }),
    1,
  );
  assert.equal(
    frames(() => pair.a.session.write(new Uint8Array())),
    0,
  );
});

test('impossible options are refused', () => {
  const options = [
    { ciphers: [] },
    { ciphers: Array.from({ length: 256 }, () => 1 as const) },
    { maxFrameData: 0 },
    { maxFrameData: MAX_FRAME_DATA + 1 },
    { maxFrameData: 1.5 },
    { rekeyAfterBytes: 0 },
    { keyPair: () => keyPairOf('A', 0x24) },
  ];
  for (const option of options)
    assert.throws(() => fixedSession('A', option), withCode('ERR_TCPCRYPT_ARGUMENT'), JSON.stringify(option));
});

test('TC-43: destroy() overwrites every traffic key, and is idempotent', () => {
  const keys: Uint8Array[] = [];
  const aead: typeof nodeAead = (name, key) => {
    keys.push(key);
    return nodeAead(name, key);
  };
  const pair = fixedPair(undefined, { aead }).run();
  pair.a.session.rekey();
  pair.run();
  assert.equal(keys.length, 8);
  const isZero = (key: Uint8Array) => key.every((byte) => byte === 0);
  assert.equal(keys.filter(isZero).length, 4, 'the old generation is gone');
  pair.a.session.destroy();
  pair.a.session.destroy();
  pair.b.session.destroy();
  assert.ok(keys.every(isZero));
  assert.deepEqual(pair.a.session.pollTransmit(), []);
  assert.equal(pair.a.session.pollEvent(), undefined);
  assert.equal(pair.a.session.state, 'failed');
  assert.throws(() => pair.a.session.handleData(new Uint8Array(1)), withCode('ERR_TCPCRYPT_CLOSED'));
  assert.throws(() => pair.a.session.write(new Uint8Array(1)), withCode('ERR_TCPCRYPT_CLOSED'));
  pair.a.session.handleEnd();
});

type Action =
  | { readonly who: 'a' | 'b'; readonly what: 'write'; readonly size: number }
  | { readonly who: 'a' | 'b'; readonly what: 'rekey' | 'end' }
  | { readonly what: 'steps'; readonly count: number };

const who = fc.constantFrom<'a' | 'b'>('a', 'b');
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ who, what: fc.constant<'write'>('write'), size: fc.nat({ max: 3000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ who, what: fc.constant<'write'>('write'), size: fc.nat({ max: 200_000 }) }),
  },
  { weight: 2, arbitrary: fc.record({ who, what: fc.constant<'rekey'>('rekey') }) },
  { weight: 1, arbitrary: fc.record({ who, what: fc.constant<'end'>('end') }) },
  {
    weight: 4,
    arbitrary: fc.record({ what: fc.constant<'steps'>('steps'), count: fc.integer({ min: 1, max: 30 }) }),
  },
);

test('property: two sessions carry arbitrary data both ways, whatever the segments, writes, rekeys and ends', () => {
  const segments = fc.oneof(
    fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
    fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1 }),
  );
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 25 }),
      segments,
      fc.integer({ min: 1, max: MAX_FRAME_DATA }),
      fc.constantFrom(50, 5000, 2 ** 36),
      (actions, segments, maxFrameData, rekeyAfterBytes) => {
        // Small frames and single bytes of a large write only cost time.
        const frameData = Math.max(maxFrameData, 100);
        let turn = 0;
        const pair = fixedPair(() => (segments[turn++ % segments.length] ?? 1) * (turn > 3000 ? 1000 : 1), {
          maxFrameData: frameData,
          rekeyAfterBytes,
        });
        const written = { a: [] as Uint8Array[], b: [] as Uint8Array[] };
        const ended = { a: false, b: false };
        let counter = 0;
        for (const action of actions) {
          if (action.what === 'steps') for (let i = 0; i < action.count; i++) pair.step();
          else if (ended[action.who]) continue;
          else if (action.what === 'write') {
            const data = Uint8Array.from({ length: action.size }, () => counter++);
            written[action.who].push(data);
            pair[action.who].session.write(data);
          } else if (action.what === 'rekey') pair[action.who].session.rekey();
          else {
            ended[action.who] = true;
            pair[action.who].session.end();
          }
        }
        pair.run();
        for (const who of ['a', 'b'] as const) if (!ended[who]) pair[who].session.end();
        pair.run();
        assert.equal(Buffer.compare(pair.b.receivedBytes, concat(written.a)), 0);
        assert.equal(Buffer.compare(pair.a.receivedBytes, concat(written.b)), 0);
        for (const end of [pair.a, pair.b]) {
          assert.equal(end.session.state, 'closed');
          assert.equal(end.events[0], 'secure');
          assert.equal(end.events.filter((event) => event === 'end').length, 1);
        }
      },
    ),
    { numRuns: 150 },
  );
});
