/**
 * A TCP connection that encrypts itself, after the manner of `net.Socket` and `tls.TLSSocket`.
 *
 * Events beyond those of stream.Duplex:
 *   'connect'  the TCP handshake is over; `encrypted` tells what ENO came to
 *   'secure'   the key exchange is over: `sessionId`, `cipher` are there (encrypted connections only)
 *   'ready'    data can flow: right after 'secure', or after 'connect' when the connection is plain
 *   'timeout'  idle for as long as setTimeout said
 *   'lookup'   as net.Socket
 */
import type { AddressInfo, Socket as TcpSocket } from 'node:net';
import { Duplex, type DuplexOptions } from 'node:stream';
import type { ErrorCode } from '../errors.js';
import { TcpcryptError } from '../errors.js';
import type { EnoOutcome } from '../kernel/eno-socket.js';
import type { AeadId, TepId } from '../session/index.js';
import { Channel } from './channel.js';
import type { Encryption } from './options.js';

type Callback = (error?: Error | null) => void;

/** What waits for 'ready': at most one of each, as stream.Writable sees to. */
interface Waiting {
  write?: { readonly chunks: readonly Uint8Array[]; readonly callback: Callback };
  final?: Callback;
}

export interface SocketOptions extends Pick<DuplexOptions, 'allowHalfOpen' | 'signal' | 'highWaterMark'> {}

export class Socket extends Duplex {
  #channel: Channel | undefined;
  #transport: TcpSocket | undefined;
  #ready = false;
  #connecting = true;
  readonly #waiting: Waiting = {};
  readonly #settings: ((transport: TcpSocket) => void)[] = [];
  #idleTimeout = 0;

  /** Not for applications: `connect` and `Server` make sockets. */
  constructor(options: SocketOptions = {}) {
    super({ ...options, allowHalfOpen: options.allowHalfOpen ?? false, emitClose: true, autoDestroy: true });
  }

  /** True when the bytes on the wire are encrypted; final from 'connect' on. */
  get encrypted(): boolean {
    return this.#channel?.encrypted ?? false;
  }
  /** Why the connection is plain TCP, as an error code; undefined when it is encrypted or not yet connected. */
  get plainReason(): ErrorCode | undefined {
    return this.#channel?.plainReason;
  }
  /**
   * The session ID (RFC 8548 §3.4): 33 bytes, equal on both ends if and only if nobody sits in the middle.
   * @throws ERR_TCPCRYPT_NO_SESSION when there is none: before 'secure', and on plain connections (RFC 8547 §5.1)
   */
  get sessionId(): Buffer {
    const id = this.#channel?.sessionId;
    if (id === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
    return Buffer.from(id);
  }
  /** The negotiation transcript (RFC 8547 §4.8): A's ENO option, then B's; undefined on plain connections. */
  get transcript(): Buffer | undefined {
    const transcript = this.#channel?.transcript;
    return transcript && Buffer.from(transcript);
  }
  /** Host A or host B (RFC 8547 §4.3). */
  get role(): 'A' | 'B' | undefined {
    return this.#channel?.role;
  }
  /** Negotiated TEP identifier, e.g. 0x23 (RFC 8548 §7). */
  get tep(): TepId | undefined {
    return this.#channel?.tep;
  }
  /** AEAD identifier, e.g. 0x0001 (RFC 8548 §7), from 'secure' on. */
  get cipher(): AeadId | undefined {
    return this.#channel?.cipher;
  }
  get resumed(): boolean {
    return this.#channel?.resumed ?? false;
  }
  /** The peer's application-aware bit (RFC 8547 §4.2). */
  get peerAware(): boolean | undefined {
    return this.#channel?.peerAware;
  }

  get connecting(): boolean {
    return this.#connecting;
  }
  get pending(): boolean {
    return !this.#ready;
  }
  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.#connecting && !this.destroyed) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }
  /** Bytes of application data received. */
  get bytesRead(): number {
    return this.#channel?.dataReceived ?? 0;
  }
  /** Bytes of application data sent. */
  get bytesWritten(): number {
    return this.#channel?.dataSent ?? 0;
  }
  get remoteAddress(): string | undefined {
    return this.#transport?.remoteAddress;
  }
  get remoteFamily(): string | undefined {
    return this.#transport?.remoteFamily;
  }
  get remotePort(): number | undefined {
    return this.#transport?.remotePort;
  }
  get localAddress(): string | undefined {
    return this.#transport?.localAddress;
  }
  get localFamily(): string | undefined {
    return this.#transport?.localFamily;
  }
  get localPort(): number | undefined {
    return this.#transport?.localPort;
  }
  get timeout(): number | undefined {
    return this.#idleTimeout === 0 ? undefined : this.#idleTimeout;
  }
  address(): AddressInfo | Record<string, never> {
    return (this.#transport?.address() ?? {}) as AddressInfo | Record<string, never>;
  }

  setNoDelay(noDelay = true): this {
    return this.#configure((transport) => transport.setNoDelay(noDelay));
  }
  setKeepAlive(enable = false, initialDelay = 0): this {
    return this.#configure((transport) => transport.setKeepAlive(enable, initialDelay));
  }
  /** Emits 'timeout' after so many idle milliseconds, as net.Socket does; 0 switches off. */
  setTimeout(milliseconds: number, callback?: () => void): this {
    this.#idleTimeout = milliseconds;
    if (callback !== undefined) {
      if (milliseconds === 0) this.off('timeout', callback);
      else this.once('timeout', callback);
    }
    return this.#configure((transport) => transport.setTimeout(milliseconds));
  }
  ref(): this {
    return this.#configure((transport) => transport.ref());
  }
  unref(): this {
    return this.#configure((transport) => transport.unref());
  }

  /** Starts a new key generation (RFC 8548 §3.8); nothing happens on a plain connection. */
  rekey(): void {
    this.#channel?.rekey();
  }

  /** Ends the writable side once everything is written, then destroys. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Closes the connection with RST. */
  resetAndDestroy(): this {
    this.#channel?.abort();
    return this.destroy();
  }

  /** Gives the socket its established connection. For `connect` and `Server` only. */
  attach(transport: TcpSocket, fd: number, outcome: EnoOutcome, encryption: Encryption): void {
    this.#transport = transport;
    this.#connecting = false;
    for (const setting of this.#settings.splice(0)) setting(transport);
    transport.on('timeout', () => this.emit('timeout'));
    this.#channel = new Channel(transport, fd, outcome, encryption, {
      onReady: () => this.#becomeReady(),
      onData: (data) => {
        if (!this.push(data)) this.#channel?.pause();
      },
      onEnd: () => {
        this.push(null);
      },
      onDrain: () => {},
      onClose: (error) => this.#transportClosed(error),
    });
    this.emit('connect');
  }

  override _read(): void {
    if (this.#ready) this.#channel?.resume();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, callback: Callback): void {
    this.#send([chunk], callback);
  }

  override _writev(chunks: { chunk: Uint8Array }[], callback: Callback): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      callback,
    );
  }

  override _final(callback: Callback): void {
    if (this.#ready) this.#channel?.end(() => callback());
    else this.#waiting.final = callback;
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const transport = this.#transport;
    this.#connecting = false;
    if (transport !== undefined && !transport.destroyed) {
      // Both directions ended in order: close as TCP does. Otherwise the peer must not take this for an end.
      if (this.readableEnded && this.writableFinished) transport.destroySoon();
      else this.#channel?.abort();
    }
    for (const waiting of [this.#waiting.write?.callback, this.#waiting.final]) {
      waiting?.(error ?? new TcpcryptError('ERR_TCPCRYPT_CLOSED'));
    }
    callback(error);
  }

  #becomeReady(): void {
    this.#ready = true;
    if (this.encrypted) this.emit('secure');
    this.emit('ready');
    const { write, final } = this.#waiting;
    delete this.#waiting.write;
    delete this.#waiting.final;
    if (write !== undefined) this.#send(write.chunks, write.callback);
    if (final !== undefined) this._final(final);
  }

  #send(chunks: readonly Uint8Array[], callback: Callback): void {
    const channel = this.#channel;
    if (!this.#ready || channel === undefined) {
      this.#waiting.write = { chunks, callback };
      return;
    }
    // What was written in one turn travels in one frame: a copy of small chunks is cheaper than their tags.
    const [only] = chunks;
    const data = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks);
    channel.write(data, (error) => callback(error));
  }

  #configure(setting: (transport: TcpSocket) => void): this {
    if (this.#transport !== undefined) setting(this.#transport);
    else this.#settings.push(setting);
    return this;
  }

  #transportClosed(error: Error | undefined): void {
    if (error !== undefined) this.destroy(error);
    else if (this.readableEnded || !this.#ready) this.destroy();
    else this.once('end', () => this.destroy());
  }
}
