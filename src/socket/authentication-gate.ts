/**
 * Stands between a channel and its owner until the peer is authenticated: what comes is for `authenticate`, and the
 * owner hears of nothing but 'secure'. Then the owner gets what has come behind it, and all that follows.
 */
import { Duplex } from 'node:stream';
import {
  type AuthenticableSocket,
  type Authentication,
  authenticate,
  demandsProof,
} from '../auth/authenticate.js';
import type { Peer } from '../auth/mechanism.js';
import { TcpcryptError } from '../errors.js';
import type { Channel } from './channel.js';
import type { ChannelHandlers } from './channel-handlers.js';

export class AuthenticationGate implements ChannelHandlers {
  readonly #channel: Channel;
  readonly #owner: ChannelHandlers;
  readonly #auth: Authentication;
  #stream: GateStream | undefined;
  #peer: Peer | undefined;
  /** Why it failed. */
  #failure: Error | undefined;
  #closed = false;
  /** Bytes that were not the application's. */
  received = 0;
  sent = 0;

  constructor(channel: Channel, owner: ChannelHandlers, auth: Authentication) {
    this.#channel = channel;
    this.#owner = owner;
    this.#auth = auth;
  }

  /** Who the peer is; undefined when it proved nothing. */
  get peer(): Peer | undefined {
    return this.#peer;
  }

  onSecure(): void {
    this.#stream = new GateStream(this, this.#channel);
    this.#owner.onSecure?.();
  }

  onReady(): void {
    const stream = this.#stream;
    if (stream !== undefined) this.#authenticate(stream).catch((error) => this.#refuse(error as Error));
    // A plain connection proves nothing. (Where a proof is demanded the mode is `required`: it does not come to this.)
    else if (demandsProof(this.#auth)) this.#refuse(new TcpcryptError('ERR_TCPCRYPT_NOT_ENCRYPTED'));
    else this.#owner.onReady();
  }

  onData(data: Uint8Array): void {
    if (this.#stream === undefined) this.#owner.onData(data);
    else {
      this.received += data.length;
      if (!this.#stream.push(data)) this.#channel.pause();
    }
  }

  onEnd(): void {
    if (this.#stream === undefined) this.#owner.onEnd();
    else this.#stream.takeEnd();
  }

  onDrain(): void {
    if (this.#stream === undefined) this.#owner.onDrain();
  }

  /** The owner is told when authentication has found out why. */
  onClose(error: Error | undefined): void {
    this.#closed = true;
    if (this.#stream === undefined) this.#owner.onClose(this.#failure ?? error);
    else this.#stream.destroy(error ?? new TcpcryptError('ERR_TCPCRYPT_CLOSED'));
  }

  async #authenticate(stream: GateStream): Promise<void> {
    const peer = await authenticate(stream, this.#auth);
    // Our last message goes out before the first byte of the application.
    await stream.flush();
    if (stream.destroyed) throw this.#channel.error ?? new TcpcryptError('ERR_TCPCRYPT_CLOSED');
    this.#peer = peer;
    const rest = stream.rest();
    this.#stream = undefined;
    this.#channel.resume();
    this.#owner.onReady();
    for (const data of rest) {
      this.received -= data.length;
      this.#owner.onData(data);
    }
    if (stream.inputEnded) this.#owner.onEnd();
  }

  /** With this error rather than that of the connection, which the peer has reset by now, perhaps. */
  #refuse(error: Error): void {
    this.#stream = undefined;
    this.#channel.flushResumption();
    // Whoever has aborted the connection himself is not told of a fault.
    if (!this.#channel.aborted || this.#channel.error !== undefined) this.#failure = error;
    this.#channel.abort(error);
    if (this.#closed) this.#owner.onClose(this.#failure);
  }
}

/** A channel as `authenticate` wants it. */
class GateStream extends Duplex implements AuthenticableSocket {
  readonly #gate: AuthenticationGate;
  readonly #channel: Channel;
  inputEnded = false;

  constructor(gate: AuthenticationGate, channel: Channel) {
    super({ allowHalfOpen: true, autoDestroy: false });
    this.#gate = gate;
    this.#channel = channel;
    this.on('error', () => {}); // who waits for it has a listener of his own
  }

  get sessionId(): Uint8Array {
    const { sessionId } = this.#channel;
    if (sessionId === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
    return sessionId;
  }
  get role(): 'A' | 'B' | undefined {
    return this.#channel.role;
  }
  get peerAware(): boolean | undefined {
    return this.#channel.peerAware;
  }
  get remoteAddress(): string | undefined {
    return this.#channel.transport.remoteAddress;
  }
  flushResumption(): void {
    this.#channel.flushResumption();
  }
  /** The gate resets the channel, with the error. */
  resetAndDestroy(): void {
    this.destroy();
  }

  takeEnd(): void {
    this.inputEnded = true;
    this.push(null);
  }

  /** Resolves when the operating system has taken over what was written, or the connection is gone. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.end(() => resolve());
    });
  }

  /** What nobody has read. */
  rest(): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    for (let chunk = this.read(); chunk !== null; chunk = this.read()) chunks.push(chunk as Buffer);
    return chunks;
  }

  override _read(): void {
    this.#channel.resume();
  }
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, sent: (error?: Error | null) => void): void {
    this.#send([chunk], sent);
  }
  override _writev(chunks: { chunk: Uint8Array }[], sent: (error?: Error | null) => void): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      sent,
    );
  }
  #send(pieces: readonly Uint8Array[], sent: (error?: Error | null) => void): void {
    for (const piece of pieces) this.#gate.sent += piece.length;
    this.#channel.writev(pieces, sent);
  }
}
