import { aead as fastestAead, generateKeyPair, type KeyPair, publicRandomBytes } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import {
  type AeadId,
  type Decoded,
  decodeInit1,
  decodeInit2,
  INIT_NONCE_LENGTH,
  TEPS,
  type TepId,
} from '../wire/index.js';
import { ByteQueue } from './byte-queue.js';
import { joined } from './joined.js';
import { answerInit1, KeyExchangeA, type KeyExchangeInput, type KeyExchangeOutput } from './key-exchange.js';
import { SessionSecret } from './key-schedule.js';
import type { NegotiatedFresh, NegotiatedResumption, Role } from './negotiation.js';
import { Receiver } from './receiver.js';
import type { ResumableSession } from './resumption.js';
import { Sender, WriteQueue } from './sender.js';
import type { SessionEvent, SessionState } from './session-event.js';
import { checkKeyPair, checkOptions, checkResumption, type SessionOptions } from './session-options.js';
import { DEFAULT_CIPHERS, MAX_FRAME_DATA, REKEY_AFTER_BYTES } from './tuning.js';

/** How far the two directions are, and what is needed to get further. */
type Phase =
  | { readonly name: 'awaiting-init2'; readonly exchange: KeyExchangeA }
  | { readonly name: 'awaiting-init1'; readonly negotiated: NegotiatedFresh }
  | { readonly name: 'framing'; readonly sender: Sender; readonly receiver: Receiver }
  | { readonly name: 'failed' };

/**
 * One tcpcrypt connection (RFC 8548) without input or output: bytes come in and go out as arguments and results.
 *
 *     const session = new Session({ negotiated });      as soon as TCP-ENO has agreed on encryption
 *     loop, after construction and after every call below:
 *         while pieces = session.pollTransmit(), not empty
 *                                                        one write to TCP, in order
 *         if session.transmitEnded                       then send TCP FIN
 *         while event = session.pollEvent()              hand it to the application
 *     session.handleData(chunk)                          TCP delivered bytes
 *     session.handleEnd()                                TCP delivered FIN
 *     session.write(data), end(), rekey()                the application wants it
 *     session.destroy()                                  the connection is gone, whatever the reason
 *
 * `handleData` and `handleEnd` throw a TcpcryptError when the connection must be aborted: send RST, and never report
 * end of file (TC-46). The session has then failed: secrets are erased, nothing is left to transmit, `handleEnd`
 * is ignored, `handleData` and `write` throw ERR_TCPCRYPT_CLOSED. Events of frames that were authentic before the
 * error can still be polled.
 *
 * TCP must set PSH on the segment with the last byte of Init1 and Init2 (TC-6). Kernels do so at the end of a write, so
 * `pollTransmit` gives an Init message alone: write each of its results before the next one is polled.
 */
export class Session {
  readonly role: Role;
  readonly tep: TepId;
  /** Host A's ENO option, then host B's (RFC 8547 §4.8). */
  readonly transcript: Uint8Array;
  readonly resumed: boolean;
  /** The peer's application-aware bit; not authenticated when resumed (RFC 8547 §4.2). */
  readonly peerAware: boolean;

  readonly #options: SessionOptions;
  readonly #received = new ByteQueue();
  readonly #writes = new WriteQueue();
  readonly #transmit: Uint8Array[] = [];
  #events: SessionEvent[] = [];
  #phase: Phase;
  /** Made by us, so erased by us. */
  #keyPair: KeyPair | undefined;
  #endRequested = false;
  #sessionId: Uint8Array | undefined;
  #cipher: AeadId | undefined;
  #resumable: ResumableSession | undefined;

  /** @throws ERR_TCPCRYPT_ARGUMENT */
  constructor(options: SessionOptions) {
    checkOptions(options);
    const { negotiated, resumption } = options;
    this.#options = options;
    this.role = negotiated.role;
    this.tep = negotiated.tep;
    this.transcript = negotiated.transcript;
    this.peerAware = negotiated.peerAware;
    this.resumed = negotiated.kind === 'resume';
    if (negotiated.kind === 'fresh') this.#phase = this.#startExchange(negotiated);
    else this.#phase = this.#resume(negotiated, checkResumption(negotiated, resumption));
  }

  /** 33 bytes, equal on both ends if and only if nobody is in the middle; undefined before 'secure'. */
  get sessionId(): Uint8Array | undefined {
    return this.#sessionId;
  }

  get cipher(): AeadId | undefined {
    return this.#cipher;
  }

  get state(): SessionState {
    return stateOf(this.#phase);
  }

  /** After writing what pollTransmit() returned, TCP FIN must follow (RFC 8548 §3.7). */
  get transmitEnded(): boolean {
    return this.#phase.name === 'framing' && this.#phase.sender.finSent;
  }

  /** There is more to poll: a new generation of our keys is due, and its first frame. */
  get owesFrame(): boolean {
    return this.#phase.name === 'framing' && !this.#phase.sender.finSent && this.#phase.sender.owesFrame;
  }

  /** Bytes of application data accepted, not yet polled. */
  get bufferedAmount(): number {
    return this.#writes.length;
  }

  /**
   * TCP delivered `chunk`, which is ours from now on: nobody may change it.
   *
   * @throws ERR_TCPCRYPT_INIT_MAGIC, _INIT_LENGTH, _INIT_TOO_LONG, _INIT_NO_CIPHER, _INIT_CIPHER_NOT_OFFERED,
   *   _INIT_PUBLIC_KEY, _FRAME_LENGTH, _FRAME_AUTH, _FRAME_PLAINTEXT, _FRAME_AFTER_FIN: abort the connection.
   *   ERR_TCPCRYPT_CLOSED: the session had failed before.
   */
  handleData(chunk: Uint8Array): void {
    this.#received.push(chunk);
    this.#handleReceived();
  }

  /**
   * As {@link handleData}, but `chunk` is the caller's again on return.
   */
  handleLentData(chunk: Uint8Array): void {
    this.#received.lend(chunk);
    this.#handleReceived();
  }

  /**
   * TCP delivered FIN. Only FINp makes it an end of file (TC-37, TC-38).
   *
   * @throws ERR_TCPCRYPT_INIT_TRUNCATED, ERR_TCPCRYPT_FRAME_TRUNCATED (inside a frame),
   *   ERR_TCPCRYPT_STREAM_TRUNCATED (between frames): abort the connection.
   */
  handleEnd(): void {
    const phase = this.#phase;
    if (phase.name === 'failed' || (phase.name === 'framing' && phase.receiver.finReceived)) return;
    const inside = this.#received.length > 0;
    this.#fail();
    if (phase.name !== 'framing') throw new TcpcryptError('ERR_TCPCRYPT_INIT_TRUNCATED');
    throw new TcpcryptError(inside ? 'ERR_TCPCRYPT_FRAME_TRUNCATED' : 'ERR_TCPCRYPT_STREAM_TRUNCATED');
  }

  /**
   * Application data; kept until there are keys. The bytes must not change before they were polled.
   *
   * @throws ERR_TCPCRYPT_CLOSED after end(), or when the session has failed
   */
  write(data: Uint8Array): void {
    if (this.#endRequested || this.#phase.name === 'failed') throw new TcpcryptError('ERR_TCPCRYPT_CLOSED');
    this.#writes.push(data);
  }

  /**
   * No more data: FINp comes on the last frame, an empty one if need be (TC-36). Receiving goes on. A second call is
   * ignored.
   *
   * @throws ERR_TCPCRYPT_CLOSED when there are `data` after end(), or the session has failed
   */
  end(data?: Uint8Array): void {
    if (data !== undefined) this.write(data);
    if (this.#phase.name === 'failed') throw new TcpcryptError('ERR_TCPCRYPT_CLOSED');
    this.#endRequested = true;
    if (this.#phase.name === 'framing') this.#phase.sender.end();
  }

  /**
   * New keys for what we send, from the next frame on, which goes out at once even if it is empty; the peer answers
   * with one of its own, so this is also a probe (RFC 8548 §3.8, §3.9). Ignored while there are no keys yet, after
   * the last frame, and, without data to send, while the peer has not answered the previous one (TC-41).
   */
  rekey(): void {
    if (this.#phase.name !== 'framing') return;
    const { sender, receiver } = this.#phase;
    if (sender.finSent) return;
    // TC-41: a second one at the same time needs data to go with it, and those that wait go with the first.
    const pending = receiver.generation < sender.generation;
    if (pending && (this.#writes.length === 0 || sender.owesFrame)) return;
    sender.advanceTo(sender.generation + 1);
  }

  /**
   * What must be written to TCP next, in one write; empty when there is nothing (more). An Init message comes alone
   * (TC-6), then everything else at once. Frames are made here. Pieces that the operating system has taken over may be
   * given to {@link recycle}.
   */
  pollTransmit(): Uint8Array[] {
    if (this.#transmit.length > 0) return this.#transmit.splice(0);
    return this.#phase.name === 'framing' ? this.#phase.sender.seal() : [];
  }

  pollEvent(): SessionEvent | undefined {
    return this.#events.shift();
  }

  /**
   * What the next session of this chain needs, ss[i+1], once and only with `keepResumable`; undefined before
   * 'secure'. The caller's from then on.
   */
  takeResumable(): ResumableSession | undefined {
    const taken = this.#resumable;
    this.#resumable = undefined;
    return taken;
  }

  /** Erases all secrets and forgets all data and events. Idempotent. */
  destroy(): void {
    this.#fail();
    this.#events = [];
  }

  /** A -> B : Init1. B waits for it. */
  #startExchange(negotiated: NegotiatedFresh): Phase {
    if (negotiated.role === 'B') return { name: 'awaiting-init1', negotiated };
    const exchange = new KeyExchangeA(this.#exchangeInput(negotiated));
    this.#transmit.push(exchange.init1);
    return { name: 'awaiting-init2', exchange };
  }

  /** Not before it is needed: who never sends Init1 costs no key pair. */
  #exchangeInput({ tep, transcript }: NegotiatedFresh): KeyExchangeInput {
    const { ciphers = DEFAULT_CIPHERS, random = publicRandomBytes } = this.#options;
    const given = this.#options.keyPair?.();
    const keyPair = given ?? generateKeyPair(TEPS[tep].curve);
    if (given === undefined) this.#keyPair = keyPair;
    else checkKeyPair(given, tep);
    return { tep, transcript, ciphers, keyPair, nonce: random(INIT_NONCE_LENGTH) };
  }

  /** No Init messages: frames begin at offset 0 (RFC 8548 §3.5). */
  #resume({ ownNonce, peerNonce, tepByte }: NegotiatedResumption, kept: ResumableSession): Phase {
    const { originalRole, cipher, index } = kept;
    // TC-17: nonce_a | nonce_b by the roles of the original session.
    const sn = originalRole === 'A' ? joined(ownNonce, peerNonce) : joined(peerNonce, ownNonce);
    const secret = SessionSecret.restore(kept.secret);
    return this.#becomeSecure(secret, { sn, tepByte, originalRole, cipher, index, offsets: [0, 0] });
  }

  #handleReceived(): void {
    try {
      if (this.#phase.name === 'failed') throw new TcpcryptError('ERR_TCPCRYPT_CLOSED');
      while (this.#handleMessage());
      this.#received.settle();
    } catch (error) {
      this.#fail();
      throw error;
    }
  }

  /** Takes an Init message, or all frames, off the received bytes; false when there is nothing more to take. */
  #handleMessage(): boolean {
    const phase = this.#phase;
    switch (phase.name) {
      case 'awaiting-init1': {
        const message = this.#takeInit((bytes) => decodeInit1(this.tep, bytes));
        if (message === undefined) return false;
        const { init2, ...output } = answerInit1(this.#exchangeInput(phase.negotiated), message);
        this.#transmit.push(init2);
        this.#phase = this.#finishExchange(output);
        return true;
      }
      case 'awaiting-init2': {
        const message = this.#takeInit((bytes) => decodeInit2(this.tep, bytes));
        if (message === undefined) return false;
        this.#phase = this.#finishExchange(phase.exchange.receiveInit2(message));
        return true;
      }
      case 'framing':
        this.#handleFrames(phase.sender, phase.receiver);
        return false;
      case 'failed':
        return false;
    }
  }

  /** The complete Init message, once it is here. Length and magic are judged by the first 8 bytes. */
  #takeInit(decode: (bytes: Uint8Array) => Decoded<unknown>): Uint8Array | undefined {
    const start = decode(this.#received.peek(INIT_PREFIX_LENGTH));
    const need = start.complete ? start.length : start.need;
    return need === undefined || this.#received.length < need ? undefined : this.#received.takeJoined(need);
  }

  #finishExchange({ secret, cipher, init1Length, init2Length }: KeyExchangeOutput): Phase {
    this.#keyPair?.erase();
    const offsets = this.role === 'A' ? [init1Length, init2Length] : [init2Length, init1Length];
    const { tepByte } = this.#options.negotiated;
    const [own = 0, peer = 0] = offsets;
    return this.#becomeSecure(secret, {
      sn: new Uint8Array(),
      tepByte,
      originalRole: this.role,
      cipher,
      index: 0,
      offsets: [own, peer],
    });
  }

  /** From ss[i] to frames. Erases the secret. */
  #becomeSecure(secret: SessionSecret, start: FramingStart): Phase {
    const { sn, tepByte, originalRole, cipher, index, offsets } = start;
    const {
      aead = fastestAead,
      maxFrameData = MAX_FRAME_DATA,
      rekeyAfterBytes = REKEY_AFTER_BYTES,
      keepResumable = false,
    } = this.#options;
    this.#cipher = cipher;
    this.#sessionId = secret.sessionId(tepByte, sn);
    const masterKey = secret.masterKey(sn);
    if (keepResumable) {
      const next = secret.exportNext();
      this.#resumable = { tep: this.tep, cipher, originalRole, index: index + 1, secret: next };
    }
    secret.erase(); // TC-25

    const [sending, receiving] = originalRole === 'A' ? (['ab', 'ba'] as const) : (['ba', 'ab'] as const); // TC-28
    const receiver = new Receiver(
      { masterKey: masterKey.clone(), direction: receiving, cipher, aead },
      offsets[1],
      this.#options.plaintextRoom,
      this.#options.plaintextAtOnce,
    );
    const sender = new Sender(
      { masterKey, direction: sending, cipher, aead, offset: offsets[0], maxFrameData, rekeyAfterBytes },
      this.#writes,
    );
    if (this.#endRequested) sender.end();
    this.#events.push({ type: 'secure' });
    return { name: 'framing', sender, receiver };
  }

  #handleFrames(sender: Sender, receiver: Receiver): void {
    receiver.open(this.#received, this.#events);
    sender.advanceTo(receiver.generation); // TC-40: catch up, and answer with a frame
  }

  #fail(): void {
    if (this.#phase.name === 'framing') {
      this.#phase.sender.erase();
      this.#phase.receiver.erase();
    }
    this.#phase = { name: 'failed' };
    this.#keyPair?.erase();
    this.#resumable?.secret.fill(0);
    this.#resumable = undefined;
    this.#received.clear();
    this.#writes.clear();
    this.#transmit.length = 0;
  }
}

/** magic and message_len (RFC 8548 §4.1) */
const INIT_PREFIX_LENGTH = 8;

interface FramingStart {
  /** sn[i] */
  readonly sn: Uint8Array;
  readonly tepByte: number;
  readonly originalRole: Role;
  readonly cipher: AeadId;
  readonly index: number;
  /** Where the first frames stand in the TCP streams: ours, the peer's. */
  readonly offsets: readonly [own: number, peer: number];
}

function stateOf(phase: Phase): SessionState {
  switch (phase.name) {
    case 'awaiting-init1':
    case 'awaiting-init2':
      return 'exchanging';
    case 'framing':
      return phase.sender.finSent && phase.receiver.finReceived ? 'closed' : 'open';
    case 'failed':
      return 'failed';
  }
}
