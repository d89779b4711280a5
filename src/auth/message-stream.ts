/**
 * Messages at the start of an encrypted stream: type u8 | length u24 | body. Takes from the socket exactly the
 * bytes of the messages asked for; what follows stays for the application.
 */
import type { Duplex } from 'node:stream';
import { TcpcryptError } from '../errors.js';
import { malformed, u8, u24 } from './bytes.js';
import { HEADER_LENGTH, type MessageType, REFUSALS, type Refusal, TYPE } from './constants.js';

interface Waiting {
  readonly type: MessageType;
  readonly limit: number;
  resolve(body: Buffer): void;
}

export class MessageStream {
  readonly #socket: Duplex;
  /** Rejected when the connection, the time or the peer fails us; never resolved. */
  readonly failed: Promise<never>;
  readonly fail: (error: unknown) => void;
  #waiting: Waiting | undefined;
  #header: Buffer | undefined;
  #corked = false;
  #over = false;
  /** DONE was received: what follows is the application's. */
  #done = false;

  constructor(socket: Duplex) {
    this.#socket = socket;
    let fail: (error: unknown) => void = () => {};
    this.failed = new Promise<never>((_, reject) => {
      fail = reject;
    });
    this.fail = fail;
    this.failed.catch(() => {});
    socket.on('readable', this.#pump);
    socket.on('end', this.#ended);
    socket.on('close', this.#ended);
    socket.on('error', fail);
  }

  /** Leaves the socket to the application. */
  release(): void {
    this.#uncork();
    this.#socket.off('readable', this.#pump);
    this.#socket.off('end', this.#ended);
    this.#socket.off('close', this.#ended);
    this.#socket.off('error', this.fail);
  }

  /** Messages of one turn of the event loop leave together. */
  send(type: MessageType, body: Uint8Array): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      setImmediate(() => this.#uncork());
    }
    this.#socket.write(frame(type, body));
  }

  /** The next message, which must be of this type. A refusal by the peer is an error wherever it comes. */
  receive(type: MessageType, limit: number): Promise<Buffer> {
    const received = new Promise<Buffer>((resolve) => {
      this.#waiting = { type, limit, resolve };
    });
    this.#pump();
    return Promise.race([received, this.failed]);
  }

  /** Sends the refusal; resolves when it has left, or cannot. */
  refuse(reason: Refusal): Promise<void> {
    this.#uncork();
    return new Promise((resolve) => {
      if (this.#socket.destroyed || this.#socket.writableEnded) resolve();
      else this.#socket.write(frame(TYPE.refuse, u8(REFUSALS.indexOf(reason))), () => resolve());
    });
  }

  readonly #pump = (): void => {
    try {
      if (this.#done) return;
      this.#header ??= this.#take(HEADER_LENGTH);
      if (this.#header === undefined) return;
      const type = this.#header.readUInt8(0);
      const length = this.#header.readUIntBE(1, 3);
      if (type === TYPE.refuse) this.#refused(length);
      else if (this.#waiting !== undefined) this.#deliver(this.#waiting, type, length);
    } catch (error) {
      this.fail(error);
    }
  };

  #deliver({ type: expected, limit, resolve }: Waiting, type: number, length: number): void {
    // Judged before a byte of the body is waited for.
    if (type !== expected) throw malformed(`type ${type}`);
    if (length > limit) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_TOO_LONG', { detail: `${length} bytes` });
    const body = this.#take(length);
    if (body === undefined) return;
    this.#header = undefined;
    this.#waiting = undefined;
    this.#done = type === TYPE.done;
    resolve(body);
  }

  /** Read also while nobody waits for a message: a reset comes right behind it. */
  #refused(length: number): void {
    if (length !== 1) throw malformed('REFUSE');
    const body = this.#take(length);
    if (body === undefined) return;
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_REFUSED', { detail: REFUSALS[body[0] ?? 0] ?? 'unknown' });
  }

  /** Exactly so many bytes, or undefined as long as they are not there. */
  #take(length: number): Buffer | undefined {
    if (length === 0) return Buffer.alloc(0);
    const bytes = this.#socket.read(length) as Buffer | null;
    // At its end a stream gives what it has.
    if (bytes === null ? this.#over && this.#waiting !== undefined : bytes.length < length)
      throw new TcpcryptError('ERR_TCPCRYPT_AUTH_TRUNCATED');
    return bytes ?? undefined;
  }

  /** The end is a fault only when more is needed: a peer may say DONE and leave. */
  readonly #ended = (): void => {
    this.#over = true;
    this.#pump();
  };

  #uncork(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }
}

const frame = (type: MessageType, body: Uint8Array): Buffer =>
  Buffer.concat([u8(type), u24(body.length), body]);
