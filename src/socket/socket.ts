import type { AddressInfo, Socket as TcpSocket } from 'node:net';
import { addAbortSignal, Duplex, type DuplexOptions } from 'node:stream';
import type { Peer } from '../auth/mechanism.js';
import type { ErrorCode } from '../errors.js';
import { TcpcryptError } from '../errors.js';
import type { AeadId, TepId } from '../session/index.js';
import { Channel } from './channel.js';
import type { ChannelHandlers } from './channel-handlers.js';
import type { Dialled } from './dial.js';
import { ownRoom } from './lent-room.js';
import { check, type Encryption, PORTION } from './options.js';
import { splitAt } from './portion.js';

type Callback = (error?: Error | null) => void;

/** What waits for 'ready': at most one of each, as stream.Writable sees to. */
interface Waiting {
  write: { readonly chunks: readonly Uint8Array[]; readonly callback: Callback } | undefined;
  final: Callback | undefined;
}

/** As in stream.Duplex and net.Socket. */
export interface SocketOptions extends Pick<DuplexOptions, 'allowHalfOpen' | 'signal' | 'highWaterMark'> {}

/** The method that gives a socket its established connection: for `connect` and `Server` only. */
export const attach = Symbol('attach');

/** What a {@link Server} hears of a socket that its application does not know yet. */
export interface Accepting {
  /** Instead of 'ready'. */
  handleReady(): void;
  /** The error that the socket has emitted; it is reset. */
  handleFailure(error: Error): void;
  /** It will not become ready. */
  handleGone(): void;
}

/**
 * A TCP connection that encrypts itself, after the manner of `net.Socket` and `tls.TLSSocket`.
 *
 * Events beyond those of stream.Duplex:
 *   'connect'  the TCP handshake is over; `encrypted` tells what ENO came to
 *   'secure'   the key exchange is over: `sessionId`, `cipher` are there (encrypted connections only)
 *   'authenticated' (peer)   the peer has proved who it is: `peer` (with the option `auth` only)
 *   'ready'    data can flow: right after 'secure' and 'authenticated', or after 'connect' when it is plain
 *   'timeout'  idle for as long as setTimeout said
 *   'lookup', 'connectionAttempt', 'connectionAttemptFailed', 'close' (hadError)   as net.Socket
 *
 * destroy() on an encrypted connection whose writing side has not finished resets it: the peer gets an error, never
 * the end of the stream. On a plain connection it does what it does on a net.Socket.
 */
export class Socket extends Duplex {
  #channel: Channel | undefined;
  #transport: TcpSocket | undefined;
  #ready = false;
  #reading = false;
  #connecting = true;
  #transportClosed = false;
  #hadError = false;
  readonly #waiting: Waiting = { write: undefined, final: undefined };
  #settings: ((transport: TcpSocket) => void)[] | undefined;
  /** Bytes of the write under way that the channel has counted already. */
  #sending = 0;
  #idleTimeout: number | undefined;
  /** Until there is a transport, which then has a timer of its own. */
  #idleTimer: NodeJS.Timeout | undefined;
  /** Until it is ready. */
  #accepting: Accepting | undefined;

  /** Not for applications: `connect` and `Server` make sockets. */
  constructor({ allowHalfOpen = false, signal, highWaterMark }: SocketOptions = {}) {
    super({
      allowHalfOpen,
      ...(highWaterMark === undefined ? {} : { highWaterMark }),
      emitClose: false, // as net.Socket: with the transport, and with `hadError`
      autoDestroy: true,
    });
    // Not by Duplex: a signal that is aborted already would destroy what is not constructed yet.
    if (signal !== undefined) addAbortSignal(signal, this);
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
  /** True when the keys come from an earlier connection (RFC 8548 §3.5). */
  get resumed(): boolean {
    return this.#channel?.resumed ?? false;
  }
  /** The peer's application-aware bit (RFC 8547 §4.2). */
  get peerAware(): boolean | undefined {
    return this.#channel?.peerAware;
  }
  /** Who is at the other end, and by which mechanism we know; undefined before 'authenticated', and without `auth`. */
  get peer(): Peer | undefined {
    return this.#channel?.peer;
  }

  /** True until 'connect'. */
  get connecting(): boolean {
    return this.#connecting;
  }
  /** True until 'ready', and again when destroyed. */
  get pending(): boolean {
    return !this.#ready || this.destroyed;
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
  /** Bytes of application data written, including what still waits in this process. */
  get bytesWritten(): number {
    return (this.#channel?.dataSent ?? 0) + this.writableLength - this.#sending;
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
    return this.#idleTimeout;
  }
  /** As net.Socket: `{}` before 'connect'. */
  address(): AddressInfo | Record<string, never> {
    return (this.#transport?.address() ?? {}) as AddressInfo | Record<string, never>;
  }

  setNoDelay(noDelay = true): this {
    return this.#configure((transport) => transport.setNoDelay(noDelay));
  }
  setKeepAlive(enable = false, initialDelay = 0): this {
    return this.#configure((transport) => transport.setKeepAlive(enable, initialDelay));
  }
  /** Emits 'timeout' after so many idle milliseconds, connecting included, as net.Socket does; 0 switches off. */
  setTimeout(milliseconds: number, callback?: () => void): this {
    check(milliseconds >= 0 && Number.isFinite(milliseconds), `timeout: ${milliseconds}`);
    if (this.destroyed) return this;
    if (callback !== undefined) {
      if (milliseconds === 0) this.off('timeout', callback);
      else this.once('timeout', callback);
    }
    this.#idleTimeout = milliseconds;
    clearTimeout(this.#idleTimer);
    if (this.#transport !== undefined) this.#watchIdleness(this.#transport);
    else if (milliseconds > 0) {
      this.#idleTimer = setTimeout(() => this.emit('timeout'), milliseconds).unref();
    }
    return this;
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

  /**
   * Later connections will not resume this one, nor the session that this one has resumed: for example because
   * authentication failed (RFC 8548 §3.5).
   */
  flushResumption(): void {
    this.#channel?.flushResumption();
  }

  /** Ends the writable side, and destroys once everything is written. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Closes the connection with RST, also a plain one. */
  resetAndDestroy(): this {
    this.#channel?.abort();
    return this.destroy();
  }

  /** @internal */
  [attach]({ transport, fd, outcome, opened }: Dialled, encryption: Encryption, accepting?: Accepting): void {
    this.#transport = transport;
    this.#accepting = accepting;
    this.#connecting = false;
    if (this.#settings !== undefined) {
      for (const setting of this.#settings) setting(transport);
      this.#settings = undefined;
    }
    if (this.#idleTimeout !== undefined) {
      clearTimeout(this.#idleTimer);
      this.#watchIdleness(transport);
    }
    this.#channel = new Channel(transport, fd, outcome, encryption, new Socket.#Handlers(this), opened);
    this.emit('connect');
  }

  static readonly #Handlers = class implements ChannelHandlers {
    readonly #socket: Socket;
    readonly room: ChannelHandlers['room'];

    constructor(socket: Socket) {
      this.#socket = socket;
      this.room = socket.room;
    }
    onSecure(): void {
      this.#socket.emit('secure');
    }
    onReady(): void {
      this.#socket.#becomeReady();
    }
    onData(data: Uint8Array): void {
      const socket = this.#socket;
      if (!socket.push(data)) socket.#channel?.pause();
    }
    onEnd(): void {
      const socket = this.#socket;
      socket.push(null);
      // As net.Socket: who does not read, and has nothing to read, hears of the end as well; after who waits for 'ready'.
      if (!socket.readableFlowing) setImmediate(readNothing, socket);
    }
    onDrain(): void {}
    onClose(error: Error | undefined): void {
      this.#socket.#closed(error);
    }
  };

  /** For data; undefined: push() is lent them. */
  protected get room(): ChannelHandlers['room'] {
    return ownRoom;
  }

  override _read(): void {
    this.#reading = true;
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
    const channel = this.#channel;
    if (!this.#ready || channel === undefined) this.#waiting.final = callback;
    else channel.end((error) => callback(error && (channel.error ?? error)));
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#connecting = false;
    clearTimeout(this.#idleTimer);
    const { write, final } = this.#waiting;
    if (write !== undefined || final !== undefined) {
      const reason = error ?? new TcpcryptError('ERR_TCPCRYPT_CLOSED');
      write?.callback(reason);
      final?.(reason);
    }
    this.#hadError = error !== null;
    const accepting = this.#accepting;
    if (accepting !== undefined) {
      if (error !== null) this.once('error', () => accepting.handleFailure(error));
      accepting.handleGone();
    }
    callback(error);
    const transport = this.#transport;
    if (transport === undefined || this.#transportClosed) process.nextTick(emitClose, this, this.#hadError);
    // On an encrypted connection the peer must not take this for the end of our data, unless it was that (TC-36).
    else if (this.writableFinished || !this.encrypted) transport.destroy();
    else this.#channel?.abort();
  }

  #becomeReady(): void {
    if (this.destroyed) return;
    this.#ready = true;
    if (this.peer !== undefined) this.emit('authenticated', this.peer);
    if (!this.destroyed) {
      const accepting = this.#accepting;
      this.#accepting = undefined;
      if (accepting !== undefined) accepting.handleReady();
      else {
        this.emit('ready');
        // As net.Socket: a client that was told to pause does not begin to read, and does not hear of the end.
        if (this.isPaused() && !this.#reading) this.#channel?.pause();
      }
    }
    const { write, final } = this.#waiting;
    if (write !== undefined) {
      this.#waiting.write = undefined;
      this.#send(write.chunks, write.callback);
    }
    if (final !== undefined) {
      this.#waiting.final = undefined;
      this._final(final);
    }
  }

  #send(chunks: readonly Uint8Array[], callback: Callback): void {
    const channel = this.#channel;
    if (!this.#ready || channel === undefined) {
      this.#waiting.write = { chunks, callback };
      return;
    }
    const [portion, rest] = splitAt(chunks, PORTION);
    for (const piece of portion) this.#sending += piece.length;
    channel.writev(portion, (error) => {
      if (rest.length > 0 && !error && !this.destroyed) {
        setImmediate(() => this.#send(rest, callback)); // others' turn
        return;
      }
      this.#sending = 0;
      callback(error && (channel.error ?? error)); // the cause, not that a write failed because of it
    });
  }

  #configure(setting: (transport: TcpSocket) => void): this {
    if (this.#transport !== undefined) {
      setting(this.#transport);
    } else {
      this.#settings ??= [];
      this.#settings.push(setting);
    }
    return this;
  }

  #watchIdleness(transport: TcpSocket): void {
    if (transport.listenerCount('timeout') === 0) transport.on('timeout', () => this.emit('timeout'));
    transport.setTimeout(this.#idleTimeout ?? 0);
  }

  #closed(error: Error | undefined): void {
    this.#transportClosed = true;
    if (this.destroyed) emitClose(this, this.#hadError);
    else if (error !== undefined) this.destroy(error);
    else if (this.readableEnded || !this.#ready) this.destroy();
    else this.once('end', () => this.destroy());
  }
}

const readNothing = (socket: Socket): unknown => socket.read(0);
const emitClose = (socket: Socket, hadError: boolean): boolean => socket.emit('close', hadError);
