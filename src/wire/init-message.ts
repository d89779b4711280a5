import { TcpcryptError } from '../errors.js';
import {
  INIT_NONCE_LENGTH,
  INIT1_MAGIC,
  INIT2_MAGIC,
  MAX_INIT_LENGTH,
  TEPS,
  type TepId,
} from './constants.js';

/** What host A offers (RFC 8548 §4.1). */
export interface Init1 {
  /** Any two-byte identifiers, also ones that we do not know. */
  readonly ciphers: readonly number[];
  readonly nonce: Uint8Array;
  /** Raw, without the length field of NIST points. */
  readonly publicKey: Uint8Array;
}

/** What host B chose (RFC 8548 §4.1). */
export interface Init2 {
  readonly cipher: number;
  readonly nonce: Uint8Array;
  readonly publicKey: Uint8Array;
}

/** What a receiver makes of the bytes so far. `need` is the length of the whole message once it is known. */
export type Decoded<Message> =
  | { readonly complete: true; readonly message: Message; readonly length: number }
  | { readonly complete: false; readonly need: number | undefined };

/** magic(4), message_len(4) */
const PREFIX_LENGTH = 8;

/**
 *     0      4             8           9             9+2K   41+2K
 *     +------+-------------+-----------+-------------+------+-------+---------+
 *     | magic| message_len | nciphers K| sym_cipher*K| N_A  | Pub_A | ignored |
 *     +------+-------------+-----------+-------------+------+-------+---------+
 */
export function encodeInit1(tep: TepId, { ciphers, nonce, publicKey }: Init1): Uint8Array {
  const message = start(INIT1_MAGIC, 1 + 2 * ciphers.length, tep);
  message[PREFIX_LENGTH] = ciphers.length;
  ciphers.forEach((cipher, i) => {
    message.writeUInt16BE(cipher, PREFIX_LENGTH + 1 + 2 * i);
  });
  return finish(message, PREFIX_LENGTH + 1 + 2 * ciphers.length, tep, nonce, publicKey);
}

/**
 *     0      4             8            10     42
 *     +------+-------------+------------+------+-------+---------+
 *     | magic| message_len | sym_cipher | N_B  | Pub_B | ignored |
 *     +------+-------------+------------+------+-------+---------+
 */
export function encodeInit2(tep: TepId, { cipher, nonce, publicKey }: Init2): Uint8Array {
  const message = start(INIT2_MAGIC, 2, tep);
  message.writeUInt16BE(cipher, PREFIX_LENGTH);
  return finish(message, PREFIX_LENGTH + 2, tep, nonce, publicKey);
}

/**
 * Reads Init1 from the start of A's stream. Bytes behind the fields, up to message_len, are skipped (TC-7).
 *
 * @throws ERR_TCPCRYPT_INIT_MAGIC as soon as one byte differs, ERR_TCPCRYPT_INIT_LENGTH,
 *   ERR_TCPCRYPT_INIT_TOO_LONG, ERR_TCPCRYPT_INIT_PUBLIC_KEY (the key's length field does not fit the curve)
 */
export function decodeInit1(tep: TepId, bytes: Uint8Array): Decoded<Init1> {
  const length = messageLength(INIT1_MAGIC, bytes);
  if (length === undefined || bytes.length < length) return { complete: false, need: length };
  const reader = new FieldReader(bytes.subarray(PREFIX_LENGTH, length));
  const ciphers: number[] = [];
  for (let left = reader.uint8(); left > 0; left--) ciphers.push(reader.uint16());
  const nonce = reader.bytes(INIT_NONCE_LENGTH);
  return { complete: true, length, message: { ciphers, nonce, publicKey: publicKey(tep, reader) } };
}

/** Reads Init2 from the start of B's stream. Errors as {@link decodeInit1}. */
export function decodeInit2(tep: TepId, bytes: Uint8Array): Decoded<Init2> {
  const length = messageLength(INIT2_MAGIC, bytes);
  if (length === undefined || bytes.length < length) return { complete: false, need: length };
  const reader = new FieldReader(bytes.subarray(PREFIX_LENGTH, length));
  const cipher = reader.uint16();
  const nonce = reader.bytes(INIT_NONCE_LENGTH);
  return { complete: true, length, message: { cipher, nonce, publicKey: publicKey(tep, reader) } };
}

/** Pub as sent: the key, for NIST curves behind a length field that counts itself (RFC 8548 §5). */
const fieldLength = (tep: TepId): number => TEPS[tep].publicKeyLength + (TEPS[tep].lengthField ? 2 : 0);

function start(magic: number, cipherBytes: number, tep: TepId): Buffer {
  const message = Buffer.allocUnsafe(PREFIX_LENGTH + cipherBytes + INIT_NONCE_LENGTH + fieldLength(tep));
  message.writeUInt32BE(magic, 0);
  message.writeUInt32BE(message.length, 4);
  return message;
}

function finish(
  message: Buffer,
  at: number,
  tep: TepId,
  nonce: Uint8Array,
  publicKey: Uint8Array,
): Uint8Array {
  // Every byte is set: what was in this memory before is nobody's business.
  if (nonce.length !== INIT_NONCE_LENGTH || publicKey.length !== TEPS[tep].publicKeyLength)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'length of the nonce or the public key' });
  message.set(nonce, at);
  if (TEPS[tep].lengthField) message.writeUInt16BE(fieldLength(tep), at + INIT_NONCE_LENGTH);
  message.set(publicKey, message.length - publicKey.length);
  return message;
}

/** message_len, as soon as it is there and if it is acceptable. */
function messageLength(magic: number, bytes: Uint8Array): number | undefined {
  for (let i = 0; i < 4 && i < bytes.length; i++)
    if (bytes[i] !== ((magic >>> (24 - 8 * i)) & 0xff)) throw new TcpcryptError('ERR_TCPCRYPT_INIT_MAGIC');
  if (bytes.length < PREFIX_LENGTH) return undefined;
  let length = 0;
  for (let i = 4; i < PREFIX_LENGTH; i++) length = length * 256 + (bytes[i] ?? 0);
  if (length > MAX_INIT_LENGTH)
    throw new TcpcryptError('ERR_TCPCRYPT_INIT_TOO_LONG', { detail: `${length} bytes` });
  if (length < PREFIX_LENGTH)
    throw new TcpcryptError('ERR_TCPCRYPT_INIT_LENGTH', { detail: `${length} bytes` });
  return length;
}

function publicKey(tep: TepId, reader: FieldReader): Uint8Array {
  if (TEPS[tep].lengthField) {
    const length = reader.uint16();
    if (length !== fieldLength(tep))
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY', { detail: `pubkey_len ${length}` });
  }
  return reader.bytes(TEPS[tep].publicKeyLength);
}

/** Takes fields off the front of a message; a field that does not fit is ERR_TCPCRYPT_INIT_LENGTH. */
class FieldReader {
  #at = 0;
  readonly #message: Uint8Array;

  constructor(message: Uint8Array) {
    this.#message = message;
  }

  bytes(count: number): Uint8Array {
    const at = this.#skip(count);
    return this.#message.subarray(at, at + count);
  }

  uint8(): number {
    return this.#message[this.#skip(1)] ?? 0;
  }

  uint16(): number {
    const at = this.#skip(2);
    return ((this.#message[at] ?? 0) << 8) | (this.#message[at + 1] ?? 0);
  }

  /** Where the next field is, of `count` bytes. */
  #skip(count: number): number {
    const at = this.#at;
    if (at + count > this.#message.length) throw new TcpcryptError('ERR_TCPCRYPT_INIT_LENGTH');
    this.#at += count;
    return at;
  }
}
