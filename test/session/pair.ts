/**
 * Both ends of a connection and an in-memory TCP between them, which cuts the stream as it likes. A pair runs until
 * nothing moves any more, within a bound against livelock.
 */
import assert from 'node:assert/strict';
import { generateKeyPair, type KeyPair } from '#src/crypto/index.js';
import {
  type Negotiated,
  negotiatedFromTranscript,
  type Role,
  Session,
  type SessionOptions,
} from '#src/session/index.js';
import type { TepId } from '#src/wire/index.js';
import { TEPS } from '#src/wire/index.js';
import { concat } from '../support/vectors.js';

/** A 45 03 23, B 45 04 01 23, or another TEP. */
export function negotiated(role: Role, tep: TepId = 0x23): Negotiated {
  const outcome = negotiatedFromTranscript(Uint8Array.of(69, 3, tep, 69, 4, 1, tep), role);
  assert.ok(outcome.result === 'encrypt');
  return outcome;
}

/** Key pairs are slow to make and need not differ between tests. */
const keyPairs = new Map<string, KeyPair>();
export function keyPairOf(role: Role, tep: TepId = 0x23): KeyPair {
  const name = `${role}${tep}`;
  const pair = keyPairs.get(name) ?? generateKeyPair(TEPS[tep].curve);
  keyPairs.set(name, pair);
  return pair;
}

/** Fixed randomness, different in both roles. */
const fixedRandom = (role: Role) => (size: number) => new Uint8Array(size).fill(role.charCodeAt(0));

/** A session that always does the same. */
export function fixedSession(role: Role, options: Partial<SessionOptions> = {}, tep: TepId = 0x23): Session {
  return new Session({
    negotiated: negotiated(role, tep),
    keyPair: () => keyPairOf(role, tep),
    random: fixedRandom(role),
    ciphers: [0x0001],
    ...options,
  });
}

/** What one end's application and its TCP have seen. */
export class End {
  readonly session: Session;
  /** All that this end gave to TCP, in order. */
  readonly wire: Uint8Array[] = [];
  readonly received: Uint8Array[] = [];
  readonly events: string[] = [];
  /** On the way to the peer. */
  inFlight: Uint8Array = new Uint8Array();
  finSent = false;
  finDelivered = false;

  constructor(session: Session) {
    this.session = session;
  }

  get receivedBytes(): Uint8Array {
    return concat(this.received);
  }

  /** Moves what the session wants to send to the wire; true when there was something. */
  transmit(): boolean {
    const pieces: Uint8Array[] = [];
    for (let write = this.session.pollTransmit(); write.length > 0; write = this.session.pollTransmit())
      pieces.push(...write);
    assert.equal(
      this.session.bufferedAmount,
      this.session.state === 'exchanging' ? this.session.bufferedAmount : 0,
    );
    this.wire.push(...pieces);
    this.inFlight = concat([this.inFlight, ...pieces]);
    const fin = this.session.transmitEnded && !this.finSent;
    this.finSent ||= fin;
    return pieces.length > 0 || fin;
  }

  drainEvents(): void {
    for (let event = this.session.pollEvent(); event !== undefined; event = this.session.pollEvent()) {
      if (event.type === 'data') {
        assert.ok(event.data.length > 0);
        this.received.push(event.data.slice());
      } else this.events.push(event.type === 'rekeyed' ? `rekeyed ${event.generation}` : event.type);
    }
  }
}

/** The size of the next TCP segment, at least 1. */
export type Segmentation = () => number;

export class Pair {
  readonly a: End;
  readonly b: End;
  readonly #segmentation: Segmentation;

  constructor(a: Session, b: Session, segmentation: Segmentation = () => Number.POSITIVE_INFINITY) {
    this.a = new End(a);
    this.b = new End(b);
    this.#segmentation = segmentation;
  }

  /** Lets both ends and the link do one thing each; false when nothing is left to do. */
  step(): boolean {
    const moved = [
      this.a.transmit(),
      this.b.transmit(),
      this.#deliver(this.a, this.b),
      this.#deliver(this.b, this.a),
    ];
    this.a.drainEvents();
    this.b.drainEvents();
    return moved.includes(true);
  }

  /** Runs until nothing moves. Every step moves a byte at least, so the bound is generous. */
  run(): this {
    let steps = 0;
    while (this.step()) assert.ok(++steps < 1_000_000, 'livelock');
    return this;
  }

  #deliver(from: End, to: End): boolean {
    const size = Math.min(from.inFlight.length, this.#segmentation());
    if (size > 0) {
      to.session.handleData(from.inFlight.slice(0, size));
      from.inFlight = from.inFlight.subarray(size);
      return true;
    }
    if (!from.finSent || from.finDelivered) return false;
    from.finDelivered = true;
    to.session.handleEnd();
    return true;
  }
}

export const fixedPair = (segmentation?: Segmentation, options: Partial<SessionOptions> = {}): Pair =>
  new Pair(fixedSession('A', options), fixedSession('B', options), segmentation);
