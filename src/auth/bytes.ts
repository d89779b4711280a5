/** Bytes of authentication messages: a checked reader, and lengths that make concatenation unambiguous. */
import { TcpcryptError } from '../errors.js';

/** Reads a message from the peer; cannot run past its end. @throws ERR_TCPCRYPT_AUTH_MESSAGE */
export class Reader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #offset = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#what = what;
  }

  bytes(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw malformed(`${this.#what} is too short`);
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }
  u8(): number {
    return this.bytes(1).readUInt8();
  }
  u16(): number {
    return this.bytes(2).readUInt16BE();
  }
  u24(): number {
    return this.bytes(3).readUIntBE(0, 3);
  }
  u32(): number {
    return this.bytes(4).readUInt32BE();
  }
  rest(): Buffer {
    return this.bytes(this.#bytes.length - this.#offset);
  }
  end(): void {
    if (this.#offset !== this.#bytes.length) throw malformed(`${this.#what} is too long`);
  }
}

export const malformed = (detail: string): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_AUTH_MESSAGE', { detail });

export const u8 = (value: number): Buffer => Buffer.of(value);
export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
export function u24(value: number): Buffer {
  const bytes = Buffer.alloc(3);
  bytes.writeUIntBE(value, 0, 3);
  return bytes;
}
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** u32 length, then the bytes: what is hashed can be read in one way only. */
export function prefixed(value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([u32(bytes.length), bytes]);
}

/** A string that came from the peer; refuses what is not UTF-8. @throws ERR_TCPCRYPT_AUTH_MESSAGE */
export function text(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_MESSAGE', { detail: 'a name is not UTF-8', cause });
  }
}
