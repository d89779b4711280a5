/**
 * One end of a connection: application, session and TCP with ENO. The application writes a text that gives away where
 * it stands in which stream, so that one look tells wrong bytes from right ones, and plaintext from ciphertext.
 */
import assert from 'node:assert/strict';
import { type AeadFactory, type AeadKey, nodeAead } from '#src/crypto/index.js';
import { ERRORS, type ErrorCode, TcpcryptError } from '#src/errors.js';
import {
  type AeadId,
  type Negotiated,
  nextResumable,
  type Plain,
  Session,
  type SessionOptions,
} from '#src/session/index.js';
import { fixedKeyPair } from '../support/key-pairs.js';
import { type Random, SeededRandom } from '../support/random.js';
import type { Clock, Timer } from './clock.js';
import { EnoEnd, type EnoSettings } from './eno-end.js';
import type { Side } from './path.js';
import type { Segment } from './segment.js';
import type { SessionCache } from './session-cache.js';
import { type ResetCause, type SegmentKind, Tcp, type TcpParameters, type TcpUser } from './tcp.js';

/** As the socket layer does it. */
const HANDSHAKE_TIMEOUT = 30_000;

/** In every text, so that none of it can be on an encrypted wire unnoticed. */
export const MARK = Buffer.from('CLEARTXT');

/** `length` bytes of the text that `side` writes, from byte `start` on. */
export function textOf(side: Side, start: number, length: number): Uint8Array {
  const text = new Uint8Array(length);
  const salt = side === 'client' ? 0x51 : 0xa7;
  for (let i = 0; i < length; i++) {
    const at = start + i;
    const mark = MARK[at & 7] ?? 0;
    text[i] = (at & 8) === 0 ? mark : (Math.imul((at >> 4) + 1, 0x9e3779b1) >>> (at & 7)) ^ salt;
  }
  return text;
}

export type Operation =
  | { readonly what: 'write'; readonly size: number }
  | { readonly what: 'end' | 'rekey' | 'reset' | 'pause' | 'resume' };

export interface HostSettings {
  readonly eno: Omit<EnoSettings, 'resumption' | 'find' | 'nonce'>;
  readonly ciphers: readonly [AeadId, ...AeadId[]];
  readonly nonceLength: number;
  readonly tcp: TcpParameters;
  readonly maxFrameData: number;
  readonly rekeyAfterBytes: number;
}

/** What a host is put into. */
export interface World {
  readonly clock: Clock;
  readonly random: Random;
  readonly send: (segment: Segment) => void;
  /** Keys and nonces of all frames that were ever sealed: TC-32. */
  readonly sealed: Set<string>;
}

export class Host implements TcpUser {
  readonly side: Side;
  readonly tcp: Tcp;
  readonly eno: EnoEnd;
  readonly #settings: HostSettings;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #cache: SessionCache;
  readonly #sealed: Set<string>;
  #deadline: Timer | undefined;

  // What the application did.
  written = 0;
  ended = false;
  resetByUs = false;
  /** Waits until it is known whether the connection is encrypted. */
  #pending: Uint8Array[] = [];

  // What it saw.
  session: Session | undefined;
  sessionId: Uint8Array | undefined;
  secure = false;
  received = 0;
  /** Every byte was the one that the peer wrote there. */
  intact = true;
  endSeen = false;
  error: ErrorCode | undefined;
  resetSeen: ResetCause | undefined;
  readonly generations: number[] = [];

  constructor(side: Side, active: boolean, settings: HostSettings, cache: SessionCache, world: World) {
    this.side = side;
    this.#settings = settings;
    this.#cache = cache;
    this.#clock = world.clock;
    this.#sealed = world.sealed;
    this.#random = new SeededRandom(world.random.next());
    const mayResume = active && settings.eno.speaksEno;
    this.eno = new EnoEnd(
      {
        ...settings.eno,
        resumption: mayResume ? cache.take() : undefined,
        find: (tep, half) => cache.find(tep, half),
        nonce: this.#random.bytes(settings.nonceLength),
      },
      active,
    );
    this.tcp = new Tcp(world.clock, this.#random, settings.tcp, this, world.send);
  }

  get outcome(): Negotiated | Plain | undefined {
    return this.eno.outcome;
  }

  /** Alive, as far as this end knows. */
  get open(): boolean {
    return this.error === undefined && this.resetSeen === undefined && !this.resetByUs;
  }

  // ---- The application ----------------------------------------------------------------------------------------

  do(operation: Operation): void {
    switch (operation.what) {
      case 'write': {
        if (this.ended || !this.open) return;
        const text = textOf(this.side, this.written, operation.size);
        this.written += text.length;
        this.#write(text);
        return;
      }
      case 'end':
        if (this.ended || !this.open) return;
        this.ended = true;
        this.#end();
        return;
      case 'rekey':
        this.session?.rekey();
        this.#pump();
        return;
      case 'reset':
        if (!this.open) return;
        this.resetByUs = true;
        this.#abort();
        return;
      case 'pause':
        this.tcp.pause();
        return;
      case 'resume':
        this.tcp.resume();
        return;
    }
  }

  #write(text: Uint8Array): void {
    if (this.session !== undefined) {
      this.session.write(text);
      this.#pump();
    } else if (this.outcome?.result === 'plain') this.tcp.write(text);
    else this.#pending.push(text);
  }

  #end(): void {
    if (this.session !== undefined) {
      this.session.end();
      this.#pump();
    } else if (this.outcome?.result === 'plain') this.tcp.end();
  }

  // ---- TCP ----------------------------------------------------------------------------------------------------

  options(kind: SegmentKind, attempt: number): Uint8Array {
    return this.eno.options(kind, attempt);
  }

  accepted(segment: Segment): void {
    this.eno.accepted(segment);
  }

  connected(): void {
    const outcome = this.outcome;
    assert.ok(outcome, 'a connection that is established knows whether it is encrypted');
    if (outcome.result === 'encrypt') this.#startSession(outcome);
    const { resumption } = this.eno;
    // TC-26: an attempt that came to nothing used its secret up.
    if (resumption !== undefined && !(outcome.result === 'encrypt' && outcome.kind === 'resume'))
      if (this.#cache.isEmpty) this.#cache.put(nextResumable(resumption));
    for (const text of this.#pending.splice(0)) this.#write(text);
    if (this.ended) this.#end();
    this.#pump();
  }

  data(bytes: Uint8Array): void {
    if (this.session === undefined) {
      this.#receive(bytes);
      return;
    }
    this.#guard(() => this.session?.handleData(bytes));
  }

  end(): void {
    if (this.session === undefined) this.endSeen = true;
    else {
      this.#guard(() => this.session?.handleEnd());
      assert.ok(this.endSeen || this.error !== undefined, 'TC-38: FIN without FINp went unnoticed');
    }
  }

  reset(cause: ResetCause): void {
    this.resetSeen = cause;
    this.session?.destroy();
    this.#deadline?.cancel();
  }

  // ---- The session --------------------------------------------------------------------------------------------

  #startSession(negotiated: Negotiated): void {
    const { ciphers, maxFrameData, rekeyAfterBytes } = this.#settings;
    const options: SessionOptions = {
      negotiated,
      ciphers,
      maxFrameData,
      rekeyAfterBytes,
      keepResumable: true,
      random: (size) => this.#random.bytes(size),
      keyPair: () => fixedKeyPair(this.side, negotiated.tep),
      aead: (name, key) => this.#watchedAead(name, key),
    };
    const { resumption } = this.eno;
    if (negotiated.kind === 'fresh') this.session = new Session(options);
    else {
      assert.ok(resumption);
      this.session = new Session({ ...options, resumption });
      resumption.secret.fill(0);
    }
    this.#deadline = this.#clock.after(HANDSHAKE_TIMEOUT, () => {
      if (this.secure || !this.open) return;
      this.error = 'ERR_TCPCRYPT_HANDSHAKE_TIMEOUT';
      this.#abort();
    });
  }

  /** Notices a nonce that is used twice with one key (TC-32). */
  #watchedAead(...[name, key]: Parameters<AeadFactory>): AeadKey {
    const id = Buffer.from(key).toString('hex');
    const aead = nodeAead(name, key);
    return {
      seal: (nonce, ...rest) => {
        const use = `${id} ${Buffer.from(nonce).toString('hex')}`;
        assert.ok(!this.#sealed.has(use), 'TC-32: two frames under one key and nonce');
        this.#sealed.add(use);
        return aead.seal(nonce, ...rest);
      },
      open: (...message) => aead.open(...message),
      erase: () => aead.erase(),
    };
  }

  /** Whatever the peer sent: a documented error that aborts, or none. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof TcpcryptError)) throw error;
      assert.equal(ERRORS[error.code].then, 'abort', `${error.code} out of received bytes`);
      this.#drain();
      this.error = error.code;
      this.#abort();
      return;
    }
    this.#drain();
    this.#pump();
  }

  #drain(): void {
    const { session } = this;
    for (let event = session?.pollEvent(); event !== undefined; event = session?.pollEvent()) {
      assert.equal(this.endSeen && event.type !== 'rekeyed', false, `${event.type} after the end`);
      switch (event.type) {
        case 'secure': {
          assert.equal(this.secure, false);
          this.secure = true;
          this.sessionId = session?.sessionId;
          const next = session?.takeResumable();
          assert.ok(next);
          this.#cache.put(next);
          break;
        }
        case 'data':
          assert.ok(this.secure);
          this.#receive(event.data);
          break;
        case 'end':
          this.endSeen = true;
          break;
        case 'rekeyed':
          this.generations.push(event.generation);
          break;
      }
    }
  }

  #pump(): void {
    const { session } = this;
    if (session === undefined || !this.open) return;
    this.#drain();
    for (let pieces = session.pollTransmit(); pieces.length > 0; pieces = session.pollTransmit())
      this.tcp.write(new Uint8Array(Buffer.concat(pieces)));
    if (session.transmitEnded) this.tcp.end();
  }

  #receive(bytes: Uint8Array): void {
    const peer = this.side === 'client' ? 'server' : 'client';
    this.intact &&= Buffer.compare(bytes, textOf(peer, this.received, bytes.length)) === 0;
    this.received += bytes.length;
  }

  #abort(): void {
    this.session?.destroy();
    this.#deadline?.cancel();
    this.tcp.abort();
  }
}
