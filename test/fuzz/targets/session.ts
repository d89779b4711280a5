/**
 * The state machine of a session. The input is a programme: what the application does, what a peer with the right keys
 * sends, and what becomes of it on the way. A model knows what must come out.
 */
import assert from 'node:assert/strict';
import { ERRORS, type ErrorCode, TcpcryptError } from '#src/errors.js';
import { ByteQueue } from '#src/session/byte-queue.js';
import {
  type AeadId,
  type Negotiated,
  negotiatedFromTranscript,
  type ResumableSession,
  type Role,
  Session,
  type TepId,
} from '#src/session/index.js';
import { fixedKeyPair } from '../../support/key-pairs.js';
import { type Random, RandomOfBytes } from '../../support/random.js';
import { LoosePeer } from '../loose-peer.js';
import type { Target } from '../target.js';

const MARK = Buffer.from('CLEARTXT');
const MAX_STEPS = 300;

/** Nothing incomplete is larger: message_len is capped at 65536, a frame has at most 65538 bytes. */
const MOST_UNUSED = 65_538;

// How much every session has in its queue at most: bounded memory is counted, not measured.
let unused = 0;
const { settle } = ByteQueue.prototype;
ByteQueue.prototype.settle = function (this: ByteQueue) {
  unused = Math.max(unused, this.length);
  settle.call(this);
};

/** What stands in the peer's stream, by its end. */
interface Sent {
  readonly end: number;
  readonly data: Uint8Array;
  readonly fin: boolean;
}

class Programme {
  readonly #random: RandomOfBytes;
  readonly #victim: Session;
  readonly #peer: LoosePeer;

  /** The peer's stream as it left the peer, and as it arrives. */
  #honest = Buffer.alloc(0);
  #stream = Buffer.alloc(0);
  #delivered = 0;
  readonly #sent: Sent[] = [];
  #finSent = false;
  /** From here on, the peer itself is not honest any more. */
  #misbehaved = Number.POSITIVE_INFINITY;

  // What the victim's application has seen.
  readonly #received: Uint8Array[] = [];
  #receivedLength = 0;
  #endSeen = false;
  #finDelivered = false;
  #error: ErrorCode | undefined;

  constructor(input: Uint8Array) {
    const random = new RandomOfBytes(input);
    this.#random = random;
    const role: Role = random.below(2) === 0 ? 'A' : 'B';
    const tep = random.pick<TepId>([0x23, 0x23, 0x23, 0x21, 0x24]);
    const resumed = random.below(4) === 3;
    const limits = {
      rekeyAfterBytes: random.pick([2 ** 36, 2 ** 36, 500]),
      maxFrameData: random.pick([65_518, 100]),
      keepResumable: random.below(2) === 1,
    };
    const ciphers = random.pick<readonly AeadId[]>([[1], [1, 2, 16], [16]]);
    const cipher = ciphers[0] ?? 1;
    if (resumed) {
      const kept: ResumableSession = {
        tep,
        cipher,
        originalRole: random.pick<Role>(['A', 'B']),
        index: 1,
        secret: new Uint8Array(32).fill(3),
      };
      const own = random.bytes(random.below(9));
      const peer = random.bytes(random.below(9));
      const negotiated: Negotiated = {
        ...negotiatedAs(role, tep),
        kind: 'resume',
        tepByte: tep | 0x80,
        ownNonce: own,
        peerNonce: peer,
      };
      this.#victim = new Session({ negotiated, resumption: kept, ...limits });
      const sn = Buffer.concat(kept.originalRole === 'A' ? [own, peer] : [peer, own]);
      const originalRole = kept.originalRole === 'A' ? 'B' : 'A';
      this.#peer = new LoosePeer({ kept: { ...kept, originalRole }, sn });
    } else {
      const negotiated = negotiatedAs(role, tep);
      const nonce = new Uint8Array(32).fill(9);
      const keyPair = () => fixedKeyPair('victim', tep);
      this.#victim = new Session({ negotiated, ciphers, keyPair, random: () => nonce, ...limits });
      this.#peer = new LoosePeer({
        role: role === 'A' ? 'B' : 'A',
        tep,
        transcript: negotiated.transcript,
        keyPair: fixedKeyPair('peer', tep),
        ciphers: random.pick<readonly number[]>([[1, 2, 16], [0x1234, ...ciphers], [2], []]),
        ignored: random.bytes(random.pick([0, 0, 0, 1, 60])),
      });
    }
  }

  run(): string {
    this.#pump();
    let steps = 0;
    while (this.#random.left > 0 && steps++ < MAX_STEPS) this.#step();
    this.#deliver(this.#stream.length - this.#delivered);
    this.#check();
    const { state } = this.#victim;
    this.#victim.destroy();
    this.#checkDead();
    return `${this.#error} ${state} ${this.#endSeen} ${this.#victim.role} ${this.#victim.resumed}`;
  }

  #step(): void {
    const random = this.#random;
    const steps: readonly (() => void)[] = [
      () => this.#deliver(random.below(8)),
      () => this.#deliver(random.between(1, 40)),
      () => this.#deliver(random.between(1, 3000)),
      () => this.#deliver(this.#stream.length - this.#delivered),
      () => this.#peerSends(random.bytes(random.below(30)), 0),
      () => this.#peerSends(new Uint8Array(random.pick([0, 1, 2000, 65_518])).fill(random.below(256)), 0),
      () => this.#peerSends(random.bytes(random.below(4)), 1),
      () => this.#peerSends(random.bytes(random.below(4)), 2),
      () => this.#peerSends(new Uint8Array(), 3),
      () => this.#peerMisbehaves(),
      () => this.#spoil(),
      () => this.#application(() => this.#victim.write(markedText(random.pick([1, 30, 500, 70_000])))),
      () => this.#application(() => this.#victim.rekey()),
      () => this.#application(() => this.#victim.end()),
      () => this.#fin(),
      () => this.#pump(),
    ];
    steps[random.below(steps.length)]?.();
  }

  /** A frame as an honest peer, with all liberties that RFC 8548 leaves: 0 data, 1 rekey, 2 urgent and reserved bits, 3 FINp. */
  #peerSends(data: Uint8Array, kind: number): void {
    if (!this.#peer.ready) return;
    const urgent = kind === 2 ? Uint8Array.of(0, 5) : new Uint8Array();
    const flags = (kind === 2 ? 0xf2 : 0) | (kind === 3 ? 1 : 0);
    const room = 65_535 - 16 - 1 - urgent.length;
    const text = data.subarray(0, room);
    if (this.#finSent) this.#misbehavesFromHere();
    this.#peer.send({
      control: (kind === 1 ? 1 : 0) | (kind === 2 ? 0xfe : 0),
      step: kind === 1,
      plaintext: new Uint8Array(Buffer.concat([Uint8Array.of(flags), urgent, text])),
    });
    this.#collect();
    this.#sent.push({ end: this.#honest.length, data: text, fin: kind === 3 });
    this.#finSent ||= kind === 3;
  }

  /** An authentic frame that no honest peer sends. */
  #peerMisbehaves(): void {
    if (!this.#peer.ready) return;
    const random = this.#random;
    this.#misbehavesFromHere();
    random.pick([
      () => this.#peer.send({ control: 0, step: false, plaintext: new Uint8Array() }),
      () => this.#peer.send({ control: 0, step: false, plaintext: Uint8Array.of(2, 0) }),
      () => this.#peer.send({ control: 1, step: false, plaintext: Uint8Array.of(0, 65) }),
      () => this.#peer.send({ control: 0, step: true, plaintext: Uint8Array.of(0, 65) }),
    ])();
    this.#collect();
  }

  /** Something on the path: bytes changed, inserted, removed or repeated. */
  #spoil(): void {
    const random = this.#random;
    const rest = this.#stream.subarray(this.#delivered);
    const at = this.#delivered + random.below(Math.min(rest.length, 200) + 1);
    const before = this.#stream.subarray(0, at);
    const after = this.#stream.subarray(at);
    const cut = random.between(1, 20);
    this.#stream = random.pick([
      () => Buffer.concat([before, after.map((byte, i) => (i === 0 ? byte ^ (1 << random.below(8)) : byte))]),
      () => Buffer.concat([before, random.bytes(cut), after]),
      () => Buffer.concat([before, after.subarray(cut)]),
      () => Buffer.concat([before, this.#stream.subarray(Math.max(0, at - cut), at), after]),
      () => Buffer.concat([before, Uint8Array.of(0, 0, random.below(20)), after]),
    ])();
  }

  #misbehavesFromHere(): void {
    this.#collect();
    this.#misbehaved = Math.min(this.#misbehaved, this.#honest.length);
  }

  #collect(): void {
    const more = this.#peer.out.splice(0);
    this.#honest = Buffer.concat([this.#honest, ...more]);
    this.#stream = Buffer.concat([this.#stream, ...more]);
  }

  /** How much of what was delivered is what an honest peer sent. */
  #goodBytes(): number {
    const most = Math.min(this.#delivered, this.#misbehaved, this.#honest.length);
    for (let at = 0; at < most; at++) if (this.#stream[at] !== this.#honest[at]) return at;
    return most;
  }

  #deliver(count: number): void {
    this.#collect();
    const chunk = this.#stream.subarray(this.#delivered, this.#delivered + count);
    // After FIN, TCP delivers nothing.
    if (this.#finDelivered || chunk.length === 0) return;
    this.#delivered += chunk.length;
    const alreadyFailed = this.#error;
    unused = 0;
    try {
      this.#victim.handleData(new Uint8Array(chunk));
    } catch (error) {
      this.#failed(error, alreadyFailed);
    }
    assert.ok(unused <= MOST_UNUSED, `${unused} bytes kept`);
    this.#pump();
  }

  #fin(): void {
    if (this.#finDelivered) return;
    this.#finDelivered = true;
    try {
      this.#victim.handleEnd();
    } catch (error) {
      assert.equal(this.#error, undefined, 'handleEnd is ignored after an error');
      this.#failed(error, undefined);
    }
    this.#pump();
    if (!this.#endSeen) assert.notEqual(this.#error, undefined, 'TC-38: FIN without FINp');
  }

  #failed(error: unknown, already: ErrorCode | undefined): void {
    assert.ok(error instanceof TcpcryptError, `${error}`);
    if (already !== undefined) {
      assert.equal(error.code, 'ERR_TCPCRYPT_CLOSED');
      return;
    }
    assert.equal(ERRORS[error.code].then, 'abort');
    this.#error = error.code;
  }

  #application(step: () => void): void {
    try {
      step();
    } catch (error) {
      assert.ok(error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_CLOSED', `${error}`);
    }
    this.#pump();
  }

  #pump(): void {
    for (let event = this.#victim.pollEvent(); event !== undefined; event = this.#victim.pollEvent()) {
      if (event.type === 'data') {
        assert.equal(this.#endSeen, false, 'data after the end');
        this.#received.push(event.data);
        this.#receivedLength += event.data.length;
      }
      if (event.type === 'end') {
        assert.equal(this.#endSeen, false, 'two ends');
        this.#endSeen = true;
      }
    }
    const failed = this.#error !== undefined;
    let polls = 0;
    for (let wire = this.#victim.pollTransmit(); wire.length > 0; wire = this.#victim.pollTransmit()) {
      assert.equal(failed, false, 'something to send after an error');
      assert.ok(polls++ < 3, 'pollTransmit never ends');
      const bytes = Buffer.concat(wire);
      assert.ok(!bytes.includes(MARK), 'ENO-36: plaintext on the wire');
      if (this.#error !== undefined) continue;
      try {
        this.#peer.hear(bytes);
      } catch (error) {
        // The victim was told nonsense; its answer is to nobody.
        assert.ok(error instanceof TcpcryptError);
      }
    }
  }

  #check(): void {
    const good = this.#goodBytes();
    const expected = this.#sent.filter(({ end }) => end <= good);
    const data = Buffer.concat(expected.map(({ data }) => data));
    const received = Buffer.concat(this.#received);
    assert.ok(received.length <= data.length, 'data that were never sent whole');
    assert.equal(Buffer.compare(received, data.subarray(0, received.length)), 0, 'wrong data');
    const fin = expected.some((frame) => frame.fin);
    if (this.#endSeen) assert.ok(fin, 'TC-37: the end without FINp');
    if (good < this.#delivered || this.#error !== undefined) return;
    assert.equal(received.length, data.length, 'data missing');
    assert.equal(this.#endSeen, fin, 'TC-37: FINp without the end');
  }

  #checkDead(): void {
    assert.deepEqual(this.#victim.pollTransmit(), []);
    assert.equal(this.#victim.pollEvent(), undefined);
    assert.equal(this.#victim.takeResumable(), undefined);
    assert.equal(this.#victim.bufferedAmount, 0);
    assert.throws(() => this.#victim.handleData(Uint8Array.of(1)), TcpcryptError);
  }
}

function negotiatedAs(role: Role, tep: TepId): Negotiated {
  const outcome = negotiatedFromTranscript(Uint8Array.of(69, 3, tep, 69, 4, 1, tep), role);
  assert.ok(outcome.result === 'encrypt');
  return outcome;
}

function markedText(length: number): Uint8Array {
  const text = new Uint8Array(length);
  for (let at = 0; at + MARK.length <= length; at += MARK.length) text.set(MARK, at);
  return text;
}

const session: Target = {
  name: 'session',
  about: 'a programme for a session, its application and its peer',
  generate: (random: Random) => random.bytes(10 + random.below(random.pick([20, 100, 400]))),
  run: (input) => new Programme(input).run(),
};

export const SESSION_TARGETS: readonly Target[] = [session];
