/**
 * What a connection and a frame cost, in operations: numbers that do not depend on the machine. Whoever makes one of
 * them larger should know it; the margin is for what is not on the hot path.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { aead, generateKeyPair } from '#src/crypto/index.js';
import { openSsl } from '#src/crypto/openssl.js';
import {
  negotiate,
  type ResumableSession,
  recycle,
  resumptionHalves,
  resumptionProposal,
  Session,
} from '#src/session/index.js';
import { roomForReading } from '#src/socket/receive.js';
import { encodeEnoContents } from '#src/wire/index.js';
import { negotiated, Pair } from './pair.js';

type Counts = Record<string, number>;
type Functions = Record<string, (...args: unknown[]) => unknown>;

/** Calls of OpenSSL's functions, by our name for them. */
let calls: Counts = {};
let originals: Functions = {};

beforeEach(() => {
  const functions = openSsl() as unknown as Functions | undefined;
  assert.ok(functions, 'the fast implementation is in use');
  // Their self-tests, before first use, do not count.
  aead('AES-128-GCM', new Uint8Array(16)).erase();
  generateKeyPair('X25519').erase();
  originals = { ...functions };
  calls = {};
  for (const [name, original] of Object.entries(originals)) {
    functions[name] = (...args) => {
      calls[name] = (calls[name] ?? 0) + 1;
      return original(...args);
    };
  }
});

afterEach(() => {
  Object.assign(openSsl() ?? {}, originals);
});

/** The calls that `step` makes. */
function during(step: () => void): Counts {
  calls = {};
  step();
  const { addressOf, ...rest } = calls;
  return rest;
}

const total = (counts: Counts): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

/** Blocks of SHA-256: of each key that something is derived from two, and two for each value; see cprf-key.ts. */
const blocks = ({ sha256Block = 0 }: Counts): number => sha256Block;
const withoutHashes = (counts: Counts): number =>
  total(Object.fromEntries(Object.entries(counts).filter(([name]) => !name.startsWith('sha256'))));

const open = (): Pair =>
  new Pair(new Session({ negotiated: negotiated('A') }), new Session({ negotiated: negotiated('B') })).run();

/** One turn of the sender's loop: pieces for the kernel. */
function turn(pair: Pair, writes: readonly Uint8Array[]): Uint8Array[] {
  for (const data of writes) pair.a.session.write(data);
  return pair.a.session.pollTransmit();
}

function deliver(pair: Pair, pieces: readonly Uint8Array[]): void {
  for (const piece of pieces) pair.b.session.handleData(piece);
  pair.b.drainEvents();
}

test('a fresh connection: one key pair, one agreement, and four values of two keys for each end', () => {
  const counts = during(open);
  assert.equal(counts.generate, 2);
  assert.equal(counts.derive, 2);
  assert.equal(counts.sha256Final, 2 * 2, 'Extract');
  assert.equal(blocks(counts), 2 * (2 * 2 + 2 * 4));
  assert.equal(counts.newCipherContext ?? 0, 0, 'not before there are data');
  assert.ok(withoutHashes(counts) <= 18, `calls of OpenSSL: ${JSON.stringify(counts)}`);
});

test('host B makes no key pair before Init1 is there', () => {
  const counts = during(() => {
    const session = new Session({ negotiated: negotiated('B') });
    session.handleData(
      new Session({ negotiated: negotiated('A') }).pollTransmit()[0]?.subarray(0, -1) ?? new Uint8Array(),
    );
    session.destroy();
  });
  assert.equal(counts.generate, 1, "host A's");
});

test('a key pair that many connections share: three calls for each agreement but the first', () => {
  const pair = generateKeyPair('X25519');
  const peer = generateKeyPair('X25519').publicKey;
  pair.agree(peer);
  assert.deepEqual(
    during(() => pair.agree(peer)),
    { setPublicKey: 1, setPeer: 1, derive: 1 },
  );
  assert.deepEqual(
    during(() => pair.erase()),
    { freeKeyContext: 1, freeKey: 1 },
  );
});

test('a resumed connection: no key pair, no agreement, four values of two keys for each end', () => {
  const first = new Pair(
    new Session({ negotiated: negotiated('A'), keepResumable: true }),
    new Session({ negotiated: negotiated('B'), keepResumable: true }),
  ).run();
  const [a, b] = [first.a.session.takeResumable(), first.b.session.takeResumable()];
  assert.ok(a && b);
  const contents = (global: number, kept: ResumableSession, nonce: Uint8Array) => {
    const data = Buffer.concat([resumptionHalves(kept).own, nonce]);
    return encodeEnoContents({ global, suboptions: [{ tep: kept.tep, v: true, data }] });
  };
  const syn = contents(0, a, new Uint8Array(8));
  const synAck = contents(1, b, new Uint8Array(3));
  const end = (own: Uint8Array, peer: Uint8Array, resumption: ResumableSession) => {
    const outcome = negotiate(own, peer, { resumption: resumptionProposal(resumption) });
    assert.ok(outcome.result === 'encrypt' && outcome.kind === 'resume');
    return () => new Session({ negotiated: outcome, resumption });
  };
  const [opening, answering] = [end(syn, synAck, a), end(synAck, syn, b)];
  const counts = during(() => new Pair(opening(), answering()).run());
  assert.equal(blocks(counts), 2 * (2 * 2 + 2 * 4));
  assert.equal(withoutHashes(counts), 0, `calls of OpenSSL: ${JSON.stringify(counts)}`);
});

test('all keys that OpenSSL holds are given back: of an open, an ended, a failed and a used connection', () => {
  const counts = during(() => {
    const pairs = [open(), open(), open(), open()] as const;
    pairs[1].a.session.end();
    pairs[1].b.session.end();
    pairs[1].run();
    assert.throws(() => pairs[2].b.session.handleData(new Uint8Array(100)));
    deliver(pairs[3], turn(pairs[3], [new Uint8Array(10)]));
    for (const pair of pairs) for (const end of [pair.a, pair.b]) end.session.destroy();
  });
  assert.equal(counts.freeKey, counts.generate);
  assert.equal(counts.freeKeyContext, counts.newKeyContext);
});

for (const [size, most] of [
  [1, 5],
  [64, 5],
  [1400, 5],
  [16_384, 6],
  [65_518, 6],
] as const) {
  test(`a frame of ${size} bytes: one piece to write, ${most} calls to seal it, 5 to open it`, () => {
    const pair = open();
    deliver(pair, turn(pair, [new Uint8Array(size)]));
    let pieces: Uint8Array[] = [];
    assert.equal(total(during(() => (pieces = turn(pair, [new Uint8Array(size)])))), most);
    assert.equal(pieces.length, 1);
    assert.equal(total(during(() => deliver(pair, pieces))), 5);
    assert.equal(pair.b.received.length, 2, 'no more events than frames');
  });
}

test('small writes of one turn travel in one frame, large ones in the largest frames there are', () => {
  const pair = open();
  turn(pair, [new Uint8Array(1)]);
  const small = Array.from({ length: 50 }, () => new Uint8Array(64));
  assert.equal(during(() => turn(pair, small)).final, 1);
  assert.equal(during(() => turn(pair, [new Uint8Array(1_000_000)])).final, 16);
});

test('what a relay reads at once: four frames, in four packets as large as offloading makes them', () => {
  const pair = open();
  turn(pair, [new Uint8Array(1)]);
  const read = new Uint8Array(roomForReading().length);
  let pieces: Uint8Array[] = [];
  assert.equal(during(() => (pieces = turn(pair, [read]))).final, 4);
  const [{ length } = read] = pieces;
  assert.equal(pieces.length, 1);
  // Of IPv4 and IPv6 on Ethernet, without timestamps and with them; 64 KB less the kernel's MAX_TCP_HEADER.
  for (const segment of [1460, 1448, 1440, 1428]) {
    const packet = Math.floor(65_215 / segment) * segment;
    assert.ok(length > 3 * packet && length <= 4 * packet, `${length} bytes, packets of ${packet}`);
  }
});

test('opening what is only lent, into memory of its own: no copy but the decryption, and nothing left of the loan', () => {
  const session = new Session({
    negotiated: negotiated('B'),
    plaintextRoom: (length) => Buffer.alloc(length),
  });
  const pair = new Pair(new Session({ negotiated: negotiated('A') }), session).run();
  const pieces = turn(pair, [new Uint8Array(65_518).fill(7), new Uint8Array(100).fill(8)]);
  const lent = Buffer.concat(pieces);
  const before = Buffer.from(lent);
  const counts = during(() => session.handleLentData(lent.subarray(0, lent.length - 10)));
  assert.ok(total(counts) <= 6, 'five calls, or six with a new context');
  assert.deepEqual(lent, before, 'the ciphertext stays');
  lent.fill(0);
  session.handleLentData(before.subarray(before.length - 10));
  const sizes: number[] = [];
  for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent()) {
    if (event.type !== 'data') continue;
    sizes.push(event.data.length);
    assert.notEqual(event.data.buffer, lent.buffer);
    assert.ok(event.data.every((byte) => byte === (event.data.length === 100 ? 8 : 7)));
  }
  assert.deepEqual(sizes, [65_518, 100]);
});

test('frames that come together: one write, and one memory and event for as much as is wanted', () => {
  for (const [plaintextAtOnce, expected] of [
    [undefined, [62_500, 62_500, 62_500, 62_500]],
    [130_000, [125_000, 125_000]],
    [Number.POSITIVE_INFINITY, [250_000]],
  ] as const) {
    const rooms: number[] = [];
    const plaintextRoom = (length: number): Uint8Array => {
      rooms.push(length - 1);
      return Buffer.alloc(length);
    };
    const session = new Session({ negotiated: negotiated('B'), plaintextRoom, plaintextAtOnce });
    const pair = new Pair(new Session({ negotiated: negotiated('A') }), session).run();
    const data = Uint8Array.from({ length: 250_000 }, (_, i) => (i * 7) >> 3);
    const pieces = turn(pair, [data]);
    assert.equal(pieces.length, 1, 'of four frames');
    for (const piece of pieces) session.handleData(piece);
    assert.deepEqual(rooms, expected);
    const received: Uint8Array[] = [];
    for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent())
      if (event.type === 'data') received.push(event.data);
    assert.deepEqual(
      received.map(({ length }) => length),
      expected,
    );
    assert.deepEqual(Buffer.concat(received), Buffer.from(data));
  }
});

test('bulk needs no memory, once it is given back', () => {
  const pair = open();
  const first = turn(pair, [new Uint8Array(65_536)]);
  for (const piece of first) recycle(piece);
  assert.deepEqual(
    turn(pair, [new Uint8Array(65_536)]).map(({ buffer }) => buffer === first[0]?.buffer),
    [true],
  );
});
