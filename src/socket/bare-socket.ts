/**
 * An established TCP connection with the methods of net.Socket, but none of its streams: what is read and written passes
 * through the stream of whoever owns it, and a second one behind that would only cost.
 *
 *     handle of the operating system ── BareSocket ── Channel ── Socket, a stream.Duplex
 *
 * Node has no public word for this. What net.Socket puts on a handle is looked up once; where something is missing,
 * {@link withoutStreams} gives back the net.Socket that it was given, the readable twin: everything else works with both.
 *
 * Why {@link Socket} is no net.Socket itself: whoever finds a TCP handle in one (node:tls, node:http, node:http2,
 * child_process) reads and writes by the handle, and so past the encryption.
 */
import { Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { tryEndSending } from '../kernel/libc.js';
import { roomForReading } from './receive.js';
import type { Written } from './send.js';

/** What an owner hears. */
export interface TcpOwner {
  /** The bytes change on return. */
  handleData(lent: Uint8Array): void;
  /** FIN. */
  handleEnd(): void;
  /** All that waited has been written. */
  handleDrain(): void;
  /** handleClosed follows. */
  handleError(error: Error): void;
  handleClosed(): void;
}

/** What we use of Node's handle of a TCP connection. */
export interface TcpHandle {
  open?(fd: number): number;
  reading: boolean;
  onread: unknown;
  readonly fd: number;
  readStart(): number;
  readStop(): number;
  useUserBuffer(buffer: Uint8Array): void;
  close(closed: () => void): void;
}

/** A net.Server as its connections see it. */
export interface Counting {
  _connections: number;
  _emitCloseIfDrained(): void;
}

interface Internals {
  _handle: TcpHandle | null;
  _server: Counting | null;
}

/** As net.Socket's: from this length on a writer is told to wait. */
const WAIT_FROM = 16_384;

const direct = process.platform === 'linux';

/** What a stream calls the encoding of bytes; TypeScript does not know it. */
const BYTES = 'buffer' as BufferEncoding;

/** net.Socket's methods without its constructor, which makes the streams. */
function withoutConstructor(): void {}
withoutConstructor.prototype = TcpSocket.prototype;
const Streamless = withoutConstructor as unknown as new () => TcpSocket & Internals;

/** Of net.Socket there is what is overridden here, timeouts, addresses, TCP's options, ref() and unref(); not more. */
export class BareSocket extends Streamless {
  owner: TcpOwner | undefined;
  /** Before the descriptor is closed because both directions have ended. */
  onOver: (() => void) | undefined;
  override destroyed = false;
  override readonly readableLength = 0;
  override readableEnded = false;
  /** Bytes that the operating system has not taken. */
  override writableLength = 0;
  override writableNeedDrain = false;
  override writable = true;
  override writableEnded = false;
  override writableFinished = false;
  override readonly connecting = false;
  override readonly _server: Counting | null;
  /** net.Socket's methods look at it. */
  readonly _parent = null;
  declare _handle: TcpHandle | null;
  /** The descriptor, -1 when closed. */
  fd: number;
  #paused = false;

  constructor(handle: TcpHandle, { owner, onread, room }: Words, server: Counting | null) {
    super();
    this._handle = handle;
    this.fd = handle.fd;
    this._server = server;
    (handle as unknown as Record<symbol, unknown>)[owner] = this;
    handle.onread = onread;
    handle.useUserBuffer(room);
  }

  override isPaused(): boolean {
    return this.#paused;
  }

  override pause(): this {
    this.#paused = true;
    const handle = this._handle;
    if (handle?.reading) {
      handle.reading = false;
      handle.readStop();
    }
    return this;
  }

  /** Starts to read. */
  override resume(): this {
    this.#paused = false;
    const handle = this._handle;
    if (handle !== null && !handle.reading && !this.readableEnded) {
      handle.reading = true;
      handle.readStart(); // can fail of a handle that is closed, only
    }
    return this;
  }

  /** Node's way to tell of FIN. */
  override push(_end: null): boolean {
    this.readableEnded = true;
    this.owner?.handleEnd();
    this.#closeIfOver();
    return false;
  }
  override read(): null {
    return null;
  }

  // As stream.Writable, but that nothing waits here: what the operating system does not take, libuv keeps in order.
  override write(data: Uint8Array, written?: unknown): boolean {
    const callback = written as Written | undefined;
    if (this.destroyed) {
      if (callback !== undefined) process.nextTick(callback, new TcpcryptError('ERR_TCPCRYPT_CLOSED'));
      return true;
    }
    this.writableLength += data.length;
    this.writableNeedDrain ||= this.writableLength >= WAIT_FROM;
    super._write(data, BYTES, (error) => this.#written(data.length, error, callback));
    return !this.writableNeedDrain;
  }
  override cork(): void {}
  override uncork(): void {}

  /** FIN, behind all that was written. */
  override end(finished?: unknown): this {
    const callback = finished as Written | undefined;
    if (this.destroyed || this.writableEnded) {
      if (callback !== undefined) process.nextTick(callback, new TcpcryptError('ERR_TCPCRYPT_CLOSED'));
      return this;
    }
    this.writableEnded = true;
    this.writable = false;
    // At once where nothing waits; otherwise libuv knows when.
    if (this.writableLength === 0 && direct && tryEndSending(this.fd) === 0)
      process.nextTick(finish, this, callback);
    else super._final((error) => this.finished(error, callback));
    return this;
  }

  override destroy(error?: Error): this {
    const handle = this._handle;
    if (handle === null) return this;
    if (this.timeout) this.setTimeout(0);
    this.destroyed = true;
    this.writable = false;
    this.fd = -1;
    this._handle = null;
    handle.close(() => this.#closed());
    if (error !== undefined) process.nextTick(() => this.owner?.handleError(error));
    if (this._server !== null) {
      this._server._connections -= 1;
      this._server._emitCloseIfDrained();
    }
    return this;
  }

  /** The handle leads here, and a scavenge does not free it: so from here on to nothing. */
  #closed(): void {
    const { owner } = this;
    this.owner = undefined;
    this.onOver = undefined;
    owner?.handleClosed();
  }

  #written(length: number, error: Error | null | undefined, callback: Written | undefined): void {
    this.writableLength -= length;
    const failure = error ?? (this.destroyed ? new TcpcryptError('ERR_TCPCRYPT_CLOSED') : undefined);
    callback?.(failure);
    if (failure !== undefined) {
      this.destroy(failure);
    } else if (this.writableNeedDrain && this.writableLength === 0) {
      this.writableNeedDrain = false;
      this.owner?.handleDrain();
    }
  }

  /** @internal FIN is on its way. */
  finished(error: Error | null | undefined, callback: Written | undefined): void {
    this.writableFinished = !error && !this.destroyed;
    callback?.(error);
    this.#closeIfOver();
  }

  #closeIfOver(): void {
    if (!this.readableEnded || !this.writableFinished || this.destroyed) return;
    this.onOver?.();
    this.destroy();
  }
}

const finish = (bare: BareSocket, callback: Written | undefined): void => bare.finished(null, callback);

/** What Node calls its things. */
interface Words {
  /** Of the property by which a handle has its net.Socket. */
  readonly owner: symbol;
  /** What a handle calls when something has come. */
  readonly onread: unknown;
  /** What it reads into. */
  readonly room: Uint8Array;
}

let words: Words | undefined | null = null;

/** Undefined where this Node has other words. */
function wordsOfNode(): Words | undefined {
  if (words === null) words = probe();
  return words;
}

/** @internal For tests: from now on connections keep their net.Socket, as where this Node has other words. */
export function keepStreams(): void {
  words = undefined;
}

/** Makes a net.Socket with the documented option `onread` of a handle that does nothing, and sees what is where. */
function probe(): Words | undefined {
  const handle: Record<PropertyKey, unknown> = { useUserBuffer: () => {} };
  const buffer = new Uint8Array(1);
  const callback = (): boolean => true;
  const options = { handle, manualStart: true, onread: { buffer, callback } };
  const socket = new TcpSocket(options as ConstructorParameters<typeof TcpSocket>[0]);
  const fields = socket as unknown as Record<PropertyKey, unknown>;
  const owner = Object.getOwnPropertySymbols(handle).find((symbol) => handle[symbol] === socket);
  const symbols = Object.getOwnPropertySymbols(socket);
  const kBuffer = symbols.find((symbol) => fields[symbol] === buffer);
  const kBufferCb = symbols.find((symbol) => fields[symbol] === callback);
  const kBufferGen = symbols.find(({ description }) => description === 'kBufferGen');
  const { onread } = handle;
  if (
    owner === undefined ||
    kBuffer === undefined ||
    kBufferCb === undefined ||
    kBufferGen === undefined ||
    typeof onread !== 'function' ||
    fields._handle !== handle
  )
    return undefined;
  const room = roomForReading();
  Object.assign(BareSocket.prototype, {
    [kBuffer]: room,
    [kBufferGen]: null,
    [kBufferCb](this: BareSocket, length: number): boolean {
      this.owner?.handleData(room.subarray(0, length));
      return true;
    },
    _readableState: { endEmitted: false }, // asked for when FIN comes
  });
  return { owner, onread, room };
}

/** The connection of a handle that nobody owns; undefined where this Node has other words. */
export function bareSocket(handle: TcpHandle, server: Counting | null): BareSocket | undefined {
  const known = wordsOfNode();
  return known && new BareSocket(handle, known, server);
}

/** The connection without its streams; `transport`, from which nothing was read, is not to be used any more. */
export function withoutStreams(transport: TcpSocket): TcpSocket {
  if (transport instanceof BareSocket) return transport;
  const known = wordsOfNode();
  const inside = transport as unknown as Internals;
  const { _handle: handle, _server: server } = inside;
  if (known === undefined || handle === null || handle.useUserBuffer === undefined) return transport;
  if (transport.readableLength > 0) return transport;
  inside._handle = null;
  inside._server = null;
  return new BareSocket(handle, known, server);
}

/** `owner` hears what becomes of the connection; of what is read only when it is a {@link BareSocket}. */
export function own(transport: TcpSocket, owner: TcpOwner): void {
  if (transport instanceof BareSocket) {
    transport.owner = owner;
    return;
  }
  transport.on('error', (error) => owner.handleError(error));
  transport.on('close', () => owner.handleClosed());
  transport.on('end', () => owner.handleEnd());
  transport.on('drain', () => owner.handleDrain());
}
