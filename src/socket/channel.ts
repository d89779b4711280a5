/**
 * A TCP connection whose ENO negotiation is over, encrypted or not, without the machinery of streams:
 * bytes in, bytes out, six call-backs. {@link Socket} makes a Duplex of it, the daemon's relay uses it as it is.
 *
 *   new Channel(transport, …)            TCP is established, the ENO outcome known
 *     → onSecure                         the keys are there (encrypted connections only)
 *     → onReady                          usable: secure and, where wanted, authenticated; or plain
 *     → onData* → onEnd                  what the peer sent; onEnd only for an authenticated end (TC-37)
 *     → onClose(error?)                  always, once, last
 *   write, end, pause, resume, abort     at any time after onReady; abort also before
 */
import type { Socket as TcpSocket } from 'node:net';
import type { Peer } from '../auth/mechanism.js';
import { ERRORS, type ErrorCode, TcpcryptError } from '../errors.js';
import { type EnoOutcome, publishSessionId } from '../kernel/eno-socket.js';
import { type Negotiated, type Plain, recycle, type Session } from '../session/index.js';
import { AuthenticationGate } from './authentication-gate.js';
import { BareSocket, own, type TcpOwner } from './bare-socket.js';
import { type ChannelHandlers, kept } from './channel-handlers.js';
import type { Opened } from './dial.js';
import { EncryptionFacts } from './encryption-facts.js';
import { beginLoan, endLoan } from './lent-room.js';
import type { Encryption, RekeyOptions } from './options.js';
import { receive } from './receive.js';
import { RekeyClock } from './rekey-clock.js';
import { Resuming } from './resuming.js';
import { send, sendLast, sendLent, type Written } from './send.js';
import { startSession } from './start-session.js';
import { peerEncrypts } from './stripped-option.js';
import { errorAtEnd, reset } from './transport.js';

export class Channel extends EncryptionFacts implements TcpOwner {
  readonly #transport: TcpSocket;
  readonly #handlers: ChannelHandlers;
  /** What stands between us and our owner until the peer is authenticated. */
  readonly #gate: AuthenticationGate | undefined;
  readonly #room: ChannelHandlers['room'];
  readonly #fd: number;
  #deadline: NodeJS.Timeout | undefined;
  #ready = false;
  #endReceived = false;
  #aborted = false;
  #ended: Written | undefined;
  #error: Error | undefined;
  #dataReceived = 0;
  #dataSent = 0;
  readonly #rekey: RekeyOptions;
  #rekeyClock: RekeyClock | undefined;
  /** Frames with something in them. */
  #heard = 0;
  readonly #resuming: Resuming;

  /**
   * @param transport an established connection, made with `allowHalfOpen`, that nobody reads from yet
   * @param fd        its descriptor
   * @param opened    of a connection that this end opened
   */
  constructor(
    transport: TcpSocket,
    fd: number,
    outcome: EnoOutcome,
    encryption: Encryption,
    handlers: ChannelHandlers,
    opened?: Opened,
  ) {
    super();
    this.#transport = transport;
    this.#resuming = new Resuming(encryption.resumption, opened);
    this.#rekey = encryption.rekey;
    // The gate keeps what comes until the peer is authenticated.
    this.#room = handlers.room ?? (encryption.auth && Buffer.allocUnsafe);
    if (encryption.auth !== undefined) this.#gate = new AuthenticationGate(this, handlers, encryption.auth);
    this.#handlers = this.#gate ?? handlers;
    this.#fd = fd;
    own(transport, this);

    let negotiated: Negotiated | Plain;
    try {
      negotiated = this.#resuming.negotiate(outcome, encryption.mandatoryAware);
    } catch (error) {
      this.plainReason = 'ERR_TCPCRYPT_RESUMPTION_LOST';
      process.nextTick(() => this.#fail(error));
      return;
    }
    if (negotiated.result === 'plain') {
      this.plainReason = negotiated.reason;
      // A kernel that says "encrypt" and a transcript that says "plain" cannot both be right: never guess (ENO-36).
      const { reason } = negotiated;
      const refuse = encryption.mode === 'required' || outcome.result === 'encrypt';
      if (ERRORS[reason].then === 'abort') process.nextTick(() => this.abort(new TcpcryptError(reason)));
      else process.nextTick(() => (refuse ? this.abort(notEncrypted(reason)) : this.#becomeReady()));
      return;
    }
    const session = startSession(negotiated, encryption, this.#resuming, transport, this.#room);
    this.session = session;
    // There are keys already: the owner may write before anything has come.
    if (negotiated.kind === 'resume') process.nextTick(() => this.#deliver(session, true));
    // The transport keeps the process alive if anything does.
    else this.#deadline = setTimeout(tooLate, encryption.handshakeTimeout, this).unref();
    this.#receive();
    if (negotiated.kind === 'fresh') this.#transmit();
  }

  /** Who the peer is, from onReady on; undefined where it proved nothing. */
  get peer(): Peer | undefined {
    return this.#gate?.peer;
  }
  /** Bytes of application data. */
  get dataReceived(): number {
    return this.#dataReceived - (this.#gate?.received ?? 0);
  }
  get dataSent(): number {
    return this.#dataSent - (this.#gate?.sent ?? 0);
  }
  get aborted(): boolean {
    return this.#aborted;
  }
  /** Why the connection was aborted. */
  get error(): Error | undefined {
    return this.#error;
  }
  get transport(): TcpSocket {
    return this.#transport;
  }

  /**
   * Sends application data, after onReady.
   * @param written called when the operating system has taken it over, or never will
   * @returns false when the caller should wait for onDrain
   */
  write(data: Uint8Array, written?: Written): boolean {
    return this.writev([data], written);
  }

  /** As {@link write}; small pieces travel in one frame. */
  writev(pieces: readonly Uint8Array[], written?: Written): boolean {
    if (this.#gone) {
      if (written !== undefined) process.nextTick(() => written(this.#error ?? closed()));
      return true;
    }
    for (const piece of pieces) this.#dataSent += piece.length;
    const session = this.session;
    if (session === undefined) return send(this.#transport, pieces, undefined, written);
    for (const piece of pieces) session.write(piece);
    return this.#transmit(written);
  }

  /** As {@link write}, but `lent` is the caller's again on return. */
  writeLent(lent: Uint8Array): boolean {
    if (this.session !== undefined) return this.write(lent); // sealed at once, as there are keys
    if (this.#gone) return true;
    this.#dataSent += lent.length;
    return sendLent(this.#transport, lent);
  }

  /** Ends our direction: FINp, then TCP FIN. `finished` is called when FIN is on its way, or the connection gone. */
  end(finished?: Written): void {
    if (this.session === undefined) {
      this.#transport.end(finished);
    } else if (this.#gone) {
      if (finished !== undefined) process.nextTick(() => finished(this.#error ?? closed()));
    } else {
      this.#ended = finished;
      this.session.end();
      this.#transmit();
    }
  }

  /** Starts a new key generation (RFC 8548 §3.8). */
  rekey(): void {
    if (this.session === undefined || this.#gone) return;
    this.session.rekey();
    this.#transmit();
  }

  /** Later connections cannot resume this one, nor what it has resumed (TC-29). */
  flushResumption(): void {
    this.#resuming.forget();
    this.session?.takeResumable()?.secret.fill(0);
  }

  pause(): void {
    this.#transport.pause();
  }

  resume(): void {
    this.#transport.resume();
  }

  /** Resets the connection (RFC 793 ABORT). `error` is what onClose reports; without one, nobody is told of a fault. */
  abort(error?: Error): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#error = error;
    this.session?.destroy();
    clearTimeout(this.#deadline);
    this.#rekeyClock?.stop();
    reset(this.#transport);
  }

  #receive(): void {
    const transport = this.#transport;
    if (!(transport instanceof BareSocket) && !receive(transport, (lent) => this.handleData(lent)))
      transport.on('data', (chunk) => this.handleData(chunk));
    else if (transport.isPaused())
      transport.pause(); // it may be reading all the same, since it was connected
    else transport.resume();
  }

  /** @internal `chunk` is lent: it changes on return. */
  handleData(chunk: Uint8Array): void {
    const session = this.session;
    if (this.#aborted) return;
    if (session === undefined) {
      if (this.#dataReceived === 0 && peerEncrypts(this.plainReason, chunk)) {
        this.abort(new TcpcryptError('ERR_TCPCRYPT_ENO_ACK_STRIPPED'));
        return;
      }
      this.#dataReceived += chunk.length;
      this.#handlers.onData(kept(chunk, this.#room));
      return;
    }
    beginLoan();
    try {
      this.#handleEncrypted(session, chunk);
    } finally {
      endLoan();
    }
  }

  #handleEncrypted(session: Session, chunk: Uint8Array): void {
    let failure: unknown;
    try {
      session.handleLentData(chunk);
    } catch (error) {
      failure = error;
    }
    // Init2 in a write of its own, before the application may write: so its last byte is pushed (TC-6).
    if (failure === undefined) this.#answer();
    // What was authentic before the error still counts; the end of a stream that went on does not.
    this.#deliver(session, failure === undefined);
    if (failure === undefined) this.#answer();
    else this.#fail(failure);
  }

  /** When there is room: a peer that asks for new keys on and on, and reads no answer, must not fill our memory. */
  #answer(): void {
    const { session } = this;
    do if (this.#transport.writableNeedDrain || this.#gone) return;
    while (this.#transmit() && session?.owesFrame);
  }

  #deliver(session: Session, inOrder: boolean): void {
    for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent()) {
      this.#heard += 1;
      switch (event.type) {
        case 'secure':
          this.#becomeSecure(session);
          break;
        case 'data':
          if (!this.#ready) break;
          this.#dataReceived += event.data.length;
          this.#handlers.onData(event.data);
          break;
        case 'end':
          if (!inOrder) break;
          this.#endReceived = true;
          this.#handlers.onEnd();
          break;
        case 'rekeyed':
          break;
      }
    }
  }

  #becomeSecure(session: Session): void {
    clearTimeout(this.#deadline);
    const resumable = session.takeResumable();
    if (resumable !== undefined) this.#resuming.keep(resumable);
    try {
      if (session.sessionId !== undefined) publishSessionId(this.#fd, session.sessionId, session.cipher);
    } catch {
      // "tcpcrypt down" in the meantime: others cannot ask the kernel for the session ID, nothing else is lost.
    }
    this.#startRekeyClock(session);
    this.#becomeReady();
  }

  #startRekeyClock(session: Session): void {
    const { afterTime, keepAlive } = this.#rekey;
    if (afterTime === undefined && keepAlive === undefined) return;
    const channel = this;
    const owner = {
      get activity() {
        return channel.#dataSent + channel.#dataReceived;
      },
      get heard() {
        return channel.#heard;
      },
      get stuck() {
        const { readableLength, writableLength } = channel.#transport;
        return channel.#transport.isPaused() || readableLength > 0 || writableLength > 0;
      },
      get ending() {
        return channel.#endReceived || session.transmitEnded;
      },
      rekey: () => this.rekey(),
      silent: () => this.abort(new TcpcryptError('ERR_TCPCRYPT_PEER_SILENT')),
    };
    this.#rekeyClock = new RekeyClock(owner, this.#rekey);
  }

  #becomeReady(): void {
    if (this.#transport.destroyed || this.#ready) return;
    this.#ready = true;
    if (this.session !== undefined) this.#handlers.onSecure?.();
    this.#handlers.onReady();
    if (this.session === undefined) this.#receive();
  }

  /** @internal */
  handleEnd(): void {
    if (this.#aborted) return;
    const error = errorAtEnd(this.#transport);
    if (error !== undefined) {
      this.#fail(error);
      return;
    }
    if (this.session === undefined) {
      this.#endReceived = true;
      this.#handlers.onEnd();
      return;
    }
    try {
      this.session.handleEnd();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Nothing can be sent any more. */
  get #gone(): boolean {
    return this.#transport.destroyed || this.session?.state === 'failed';
  }

  /** Writes what the session has to send. */
  #transmit(written?: Written): boolean {
    const session = this.session;
    if (session === undefined || this.#gone) return true;
    let pieces: Uint8Array[];
    try {
      pieces = session.pollTransmit();
    } catch (error) {
      this.#fail(error);
      written?.(this.#error);
      return true;
    }
    if (!session.transmitEnded || this.#transport.writableEnded)
      return send(this.#transport, pieces, recycle, written);
    const flowing = sendLast(this.#transport, pieces, recycle, written);
    this.#transport.end(this.#ended);
    return flowing;
  }

  /** @internal */
  handleDrain(): void {
    this.#answer();
    if (!this.#transport.writableNeedDrain) this.#handlers.onDrain();
  }

  /** @internal */
  handleError(error: Error): void {
    this.abort(error);
  }

  #fail(error: unknown): void {
    this.abort(error instanceof Error ? error : new Error(String(error)));
  }

  /** @internal */
  handleClosed(): void {
    clearTimeout(this.#deadline);
    this.#rekeyClock?.stop();
    this.session?.destroy();
    if (!this.#aborted && this.session !== undefined && !this.#endReceived) {
      this.#error = new TcpcryptError('ERR_TCPCRYPT_STREAM_TRUNCATED');
    }
    this.#handlers.onClose(this.#error);
  }
}

const tooLate = (channel: Channel): void =>
  channel.abort(new TcpcryptError('ERR_TCPCRYPT_HANDSHAKE_TIMEOUT'));

const closed = (): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_CLOSED');

const notEncrypted = (reason: ErrorCode): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_NOT_ENCRYPTED', { cause: new TcpcryptError(reason), detail: reason });
