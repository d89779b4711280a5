/**
 * A socket with net.Socket's option `onread`: what comes is put into memory of the application's and told to it, and no
 * stream hears of it. Nothing is allocated for data, so there is nothing to collect either. Only what is authentic gets
 * there.
 */
import type { OnReadOpts } from 'node:net';
import { check } from './options.js';
import { Socket, type SocketOptions } from './socket.js';

const NOTHING = new Uint8Array();

export class OnreadSocket extends Socket {
  readonly #onread: OnReadOpts;
  #buffer: Uint8Array;
  /** Until resume(). */
  #stopped = false;
  /** What came meanwhile: not more than one read. */
  #waiting: Uint8Array = NOTHING;
  /** FIN has come, behind that. */
  #ended = false;

  /** @throws ERR_TCPCRYPT_ARGUMENT */
  constructor(options: SocketOptions, onread: OnReadOpts) {
    super(options);
    check(typeof onread === 'object' && onread !== null, 'onread', onread);
    const { buffer, callback } = onread;
    check(typeof callback === 'function', 'onread.callback', callback);
    this.#onread = onread;
    this.#buffer = usable(typeof buffer === 'function' ? buffer() : buffer);
  }

  /** None: {@link push} is done with data when it returns. */
  protected override get room(): undefined {
    return undefined;
  }

  override pause(): this {
    this.#stopped = true;
    return super.pause();
  }

  override resume(): this {
    if (this.#stopped) process.nextTick(goOn, this);
    this.#stopped = false;
    return super.resume();
  }

  override _read(): void {
    if (!this.#stopped) super._read();
  }

  /** `data` are lent. @returns false: no more until resume() */
  override push(data: Uint8Array | null): boolean {
    if (data === null) this.#ended = true;
    else this.#deliver(data);
    if (this.#ended && !this.#stopped && this.#waiting.length === 0) {
      super.push(null);
      this.read(0); // 'end' needs no reader
    }
    return !this.#stopped;
  }

  #deliver(lent: Uint8Array): void {
    let rest = lent;
    if (this.#waiting.length > 0)
      rest = lent.length > 0 ? Buffer.concat([this.#waiting, lent]) : this.#waiting;
    this.#waiting = NOTHING;
    try {
      while (rest.length > 0 && !this.#stopped && !this.destroyed) {
        const buffer = usable(this.#buffer);
        const piece = rest.subarray(0, buffer.length);
        buffer.set(piece);
        rest = rest.subarray(piece.length); // also where the application throws
        this.#tell(piece.length, buffer);
      }
    } finally {
      if (rest.length > 0) this.#waiting = rest.buffer === lent.buffer ? new Uint8Array(rest) : rest;
    }
  }

  #tell(length: number, buffer: Uint8Array): void {
    const { buffer: next, callback } = this.#onread;
    if (callback.call(this, length, buffer) === false) this.#stopped = true;
    if (typeof next !== 'function') return;
    const made: unknown = next();
    if (made instanceof Uint8Array) this.#buffer = made; // as node:net: otherwise the same once more
  }
}

/** What waited, then what the operating system has. */
function goOn(socket: OnreadSocket): void {
  if (!socket.destroyed && socket.push(NOTHING)) socket._read();
}

/** An empty one would be asked to take something for ever. */
function usable(buffer: unknown): Uint8Array {
  check(buffer instanceof Uint8Array && buffer.length > 0, 'onread.buffer: a Uint8Array with room');
  return buffer;
}
