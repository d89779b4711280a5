/** What a peer, or somebody in the middle, can do wrong: an error each, and none looks like end of file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeAead } from '#src/crypto/index.js';
import { ERRORS, type ErrorCode, TcpcryptError } from '#src/errors.js';
import type { Session } from '#src/session/index.js';
import { type Direction, SessionSecret } from '#src/session/key-schedule.js';
import { encodeFrameHeader, encodeInit1, encodeInit2, StreamOffset } from '#src/wire/index.js';
import { seal } from '../support/aead.js';
import { withCode } from '../support/code.js';
import { concat, fromHex, toHex } from '../support/vectors.js';
import { fixedPair, fixedSession, keyPairOf, negotiated } from './pair.js';

const NONCE = new Uint8Array(32);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const init1 = (ciphers: number[] = [1], publicKey = keyPairOf('A').publicKey): Uint8Array =>
  encodeInit1(0x23, { ciphers, nonce: NONCE, publicKey });
const init2 = (cipher = 1, publicKey = keyPairOf('B').publicKey): Uint8Array =>
  encodeInit2(0x23, { cipher, nonce: NONCE, publicKey });

/** The error is the expected one, the session is dead, and the application saw no end of file. */
function rejects(session: Session, code: ErrorCode, attack: () => void): void {
  assert.equal(ERRORS[code].then, 'abort');
  assert.throws(attack, withCode(code));
  assert.equal(session.state, 'failed');
  assert.deepEqual(session.pollTransmit(), []);
  assert.throws(() => session.handleData(Uint8Array.of(0)), withCode('ERR_TCPCRYPT_CLOSED'));
  session.handleEnd();
}

const noEnd = (session: Session): void => {
  for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent())
    assert.notEqual(event.type, 'end');
};

test('wrong magic: at the first wrong byte, in either role, and for a peer of the same role', () => {
  for (const [role, bytes] of [
    ['A', Uint8Array.of(0x16)],
    ['B', text('GET / HTTP/1.1')],
    ['A', init1()],
    ['B', init2()],
  ] as const) {
    const session = fixedSession(role);
    rejects(session, 'ERR_TCPCRYPT_INIT_MAGIC', () => session.handleData(bytes.slice()));
  }
});

test('FIN during the key exchange is an error, not end of file', () => {
  for (const bytes of [new Uint8Array(), init1().subarray(0, 5), init1().subarray(0, 74)]) {
    const session = fixedSession('B');
    session.handleData(bytes);
    rejects(session, 'ERR_TCPCRYPT_INIT_TRUNCATED', () => session.handleEnd());
  }
});

test('a message_len above the cap: refused after 8 bytes, before anything is buffered', () => {
  const session = fixedSession('B');
  session.handleData(fromHex('15101a0e000100'));
  rejects(session, 'ERR_TCPCRYPT_INIT_TOO_LONG', () => session.handleData(fromHex('01')));
});

test('a message_len that does not cover the fields', () => {
  const bytes = init1();
  bytes[7] = 74;
  const session = fixedSession('B');
  rejects(session, 'ERR_TCPCRYPT_INIT_LENGTH', () => session.handleData(bytes));
});

test('ENO-52: no cipher in common: none at all, null, only unknown ones, only others', () => {
  for (const ciphers of [[], [0], [0x1234], [2, 16]]) {
    const session = fixedSession('B');
    rejects(session, 'ERR_TCPCRYPT_INIT_NO_CIPHER', () => session.handleData(init1(ciphers)));
  }
});

test('TC-10: a cipher that was not offered', () => {
  for (const cipher of [2, 0x1234]) {
    const session = fixedSession('A');
    rejects(session, 'ERR_TCPCRYPT_INIT_CIPHER_NOT_OFFERED', () => session.handleData(init2(cipher)));
  }
});

test('TC-9, TC-12: an invalid public key, in either role: all-zero secret, off the curve', () => {
  const zero = new Uint8Array(32);
  const a = fixedSession('A');
  rejects(a, 'ERR_TCPCRYPT_INIT_PUBLIC_KEY', () => a.handleData(init2(1, zero)));
  const b = fixedSession('B');
  rejects(b, 'ERR_TCPCRYPT_INIT_PUBLIC_KEY', () => b.handleData(init1([1], zero)));
  assert.deepEqual(b.pollTransmit(), [], 'no Init2 for such a key');

  // p256-off-curve of init-messages.json
  const offCurve = fromHex('02a63a92774b0b04da5ccd74187be5995668eb97a82893b456f3a966cf93e076d7');
  const p256 = fixedSession('B', {}, 0x21);
  const message = encodeInit1(0x21, { ciphers: [1], nonce: NONCE, publicKey: offCurve });
  rejects(p256, 'ERR_TCPCRYPT_INIT_PUBLIC_KEY', () => p256.handleData(message));
});

/** A and B after the key exchange. */
function open(): { a: Session; b: Session } {
  const pair = fixedPair().run();
  return { a: pair.a.session, b: pair.b.session };
}

function frame(session: Session, data: string): Uint8Array {
  session.write(text(data));
  return concat(session.pollTransmit());
}

test('TC-35: a changed, a replayed, a reflected, a swapped and a dropped frame', () => {
  const attacks: ((a: Session, b: Session) => Uint8Array)[] = [
    (a) => {
      const bytes = frame(a, 'data');
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      return bytes;
    },
    (a, b) => {
      const bytes = frame(a, 'data');
      b.handleData(bytes.slice());
      return bytes;
    },
    (_, b) => frame(b, 'data'),
    (a) => {
      const first = frame(a, 'one');
      return concat([frame(a, 'two'), first]);
    },
    (a) => {
      frame(a, 'one');
      return frame(a, 'two');
    },
    (a) => {
      const bytes = frame(a, 'data');
      bytes[0] = 1; // pretends to begin a new generation
      return bytes;
    },
    (a) => {
      const bytes = frame(a, 'data');
      bytes[0] = 2; // a reserved bit: ignored, but authenticated
      return bytes;
    },
  ];
  for (const attack of attacks) {
    const { a, b } = open();
    const bytes = attack(a, b);
    rejects(b, 'ERR_TCPCRYPT_FRAME_AUTH', () => b.handleData(bytes));
    noEnd(b);
  }
});

test('what was authentic before an error can still be read', () => {
  const { a, b } = open();
  const good = frame(a, 'good');
  assert.throws(() => b.handleData(concat([good, good])), withCode('ERR_TCPCRYPT_FRAME_AUTH'));
  const event = b.pollEvent();
  assert.ok(event?.type === 'data');
  assert.deepEqual(toHex(event.data), toHex(text('good')));
});

test('a frame too short for flags and tag', () => {
  for (let clen = 0; clen < 17; clen++) {
    const { b } = open();
    rejects(b, 'ERR_TCPCRYPT_FRAME_LENGTH', () => b.handleData(Uint8Array.of(0, 0, clen)));
  }
});

test('TC-38: FIN inside a frame, and FIN between frames, without FINp', () => {
  const first = open();
  first.b.handleData(frame(first.a, 'data').subarray(0, 10));
  rejects(first.b, 'ERR_TCPCRYPT_FRAME_TRUNCATED', () => first.b.handleEnd());
  const second = open();
  second.b.handleData(frame(second.a, 'data'));
  rejects(second.b, 'ERR_TCPCRYPT_STREAM_TRUNCATED', () => second.b.handleEnd());
  noEnd(second.b);
});

test('data after FINp: in the same segment, and in a later one', () => {
  const first = open();
  first.a.end(text('all'));
  const last = concat(first.a.pollTransmit());
  rejects(first.b, 'ERR_TCPCRYPT_FRAME_AFTER_FIN', () =>
    first.b.handleData(concat([last, Uint8Array.of(0)])),
  );
  const second = open();
  second.b.end();
  second.b.pollTransmit();
  second.b.handleData(last.slice());
  assert.equal(second.b.state, 'closed');
  rejects(second.b, 'ERR_TCPCRYPT_FRAME_AFTER_FIN', () => second.b.handleData(Uint8Array.of(0)));
});

/** An authentic frame with a plaintext that no right sender makes, as A's first. */
function forgedByPeer(plaintext: Uint8Array): { victim: Session; bytes: Uint8Array } {
  const attacker = keyPairOf('A');
  const victim = fixedSession('B');
  const first = init1();
  victim.handleData(first.slice());
  const second = concat(victim.pollTransmit());
  const secret = SessionSecret.ofKeyExchange({
    transcript: negotiated('B').transcript,
    nonceA: NONCE,
    init1: first,
    init2: second,
    es: attacker.agree(keyPairOf('B').publicKey),
  });
  const direction: Direction = 'ab';
  const key = secret.masterKey(new Uint8Array()).trafficKey(direction, 1);
  const header = encodeFrameHeader({ rekey: false, clen: plaintext.length + 16 });
  const nonce = new StreamOffset(first.length).nonce(key.nr);
  return { victim, bytes: seal(key.aead(nodeAead), nonce, header, [plaintext]) };
}

test('ENO-55: URGp with its field gives data in their place and nothing urgent; without its field, an error', () => {
  const right = forgedByPeer(fromHex('0200056869'));
  right.victim.handleData(right.bytes);
  assert.equal(right.victim.pollEvent()?.type, 'secure');
  const event = right.victim.pollEvent();
  assert.ok(event?.type === 'data');
  assert.equal(toHex(event.data), toHex(text('hi')));
  for (const plaintext of ['02', '0300']) {
    const { victim, bytes } = forgedByPeer(fromHex(plaintext));
    rejects(victim, 'ERR_TCPCRYPT_FRAME_PLAINTEXT', () => victim.handleData(bytes));
    noEnd(victim);
  }
});

test('the longest Init1, and the largest frame, one byte at a time', () => {
  const b = fixedSession('B');
  const longest = concat([init1(), new Uint8Array(65_536 - 75)]);
  new DataView(longest.buffer).setUint32(4, 65_536);
  for (const byte of longest) b.handleData(Uint8Array.of(byte));
  assert.ok(b.sessionId);

  const { a, b: receiver } = open();
  const data = Uint8Array.from({ length: 65_518 }, (_, i) => i % 251);
  a.write(data);
  for (const byte of concat(a.pollTransmit())) receiver.handleData(Uint8Array.of(byte));
  const received: Uint8Array[] = [];
  for (let event = receiver.pollEvent(); event !== undefined; event = receiver.pollEvent())
    if (event.type === 'data') received.push(event.data);
  assert.equal(Buffer.compare(concat(received), data), 0);
});

interface Recording {
  readonly wire: Uint8Array;
  readonly data: Uint8Array;
}

/** What one role sends in a session with everything in it: data, rekeys of both sides, FINp. */
function record(role: 'A' | 'B'): Recording {
  const pair = fixedPair();
  const [self, peer] = role === 'A' ? [pair.a, pair.b] : [pair.b, pair.a];
  self.session.write(text('before secure'));
  pair.run();
  self.session.write(text('a second frame'));
  self.session.rekey();
  pair.run();
  self.session.write(text('more'));
  pair.run();
  self.session.end(text('the last'));
  pair.run();
  assert.deepEqual(peer.events, ['secure', 'rekeyed 1', 'end']);
  return { wire: concat(self.wire), data: peer.receivedBytes };
}

/** What a victim makes of a stream: the data, and how it ended. */
function replay(victim: Session, wire: Uint8Array): { data: Uint8Array; end: boolean; error: unknown } {
  const received: Uint8Array[] = [];
  let end = false;
  let error: unknown;
  try {
    victim.handleData(wire);
    victim.handleEnd();
  } catch (thrown) {
    error = thrown;
  }
  for (let event = victim.pollEvent(); event !== undefined; event = victim.pollEvent()) {
    if (event.type === 'data') received.push(event.data);
    if (event.type === 'end') end = true;
  }
  return { data: concat(received), end, error };
}

for (const role of ['A', 'B'] as const) {
  const victim = (): Session => {
    const session = fixedSession(role === 'A' ? 'B' : 'A');
    session.pollTransmit();
    return session;
  };

  test(`ENO-54, TC-46: every bit of ${role}'s stream flipped: an error, never wrong data, never end of file`, () => {
    const { wire, data } = record(role);
    assert.deepEqual(replay(victim(), wire.slice()), { data, end: true, error: undefined });
    for (let bit = 0; bit < 8 * wire.length; bit++) {
      const tampered = wire.slice();
      const at = bit >> 3;
      tampered[at] = (tampered[at] ?? 0) ^ (1 << (bit & 7));
      const outcome = replay(victim(), tampered);
      assert.ok(outcome.error instanceof TcpcryptError, `bit ${bit}: ${outcome.error}`);
      assert.equal(ERRORS[outcome.error.code].then, 'abort');
      assert.equal(outcome.end, false, `bit ${bit}`);
      assert.equal(toHex(data).startsWith(toHex(outcome.data)), true, `bit ${bit}`);
    }
  });

  test(`TC-38: ${role}'s stream cut anywhere: an error, never end of file`, () => {
    const { wire, data } = record(role);
    for (let length = 0; length < wire.length; length++) {
      const outcome = replay(victim(), wire.slice(0, length));
      assert.ok(outcome.error instanceof TcpcryptError, `cut at ${length}`);
      assert.equal(outcome.end, false);
      assert.equal(toHex(data).startsWith(toHex(outcome.data)), true);
    }
  });
}
