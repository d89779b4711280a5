/**
 * AEAD with OpenSSL contexts that stay: from one message of a key to the next only the nonce changes. 0.7 µs and 0.25 µs
 * for each KiB, a quarter of what {@link nodeAead}, its readable twin, takes for small messages and half for large ones.
 *
 *     seal: header and plaintext → header | ciphertext | tag where they are ready to be written
 *     open: ciphertext in the pieces as they came → plaintext in one piece
 */
import { TcpcryptError } from '../errors.js';
import {
  type AeadFactory,
  type AeadKey,
  type AeadName,
  checkRoom,
  type Memory,
  nodeAead,
  TAG_LENGTH,
  totalLength,
} from './aead.js';
import { CipherContexts, newUser } from './cipher-contexts.js';
import { forgetErrors, memoryOf, type OpenSsl, openSsl, succeeded } from './openssl.js';

/** Of EVP_CIPHER_CTX_ctrl, for every AEAD. */
const GET_TAG = 0x10;
const SET_TAG = 0x11;

/** OpenSSL's names of the algorithms. */
const NAMES: { readonly [name in AeadName]: string } = {
  'AES-128-GCM': 'id-aes128-GCM',
  'AES-256-GCM': 'id-aes256-GCM',
  'CHACHA20-POLY1305': 'ChaCha20-Poly1305',
};
const KEY_LENGTH: { readonly [name in AeadName]: number } = {
  'AES-128-GCM': 16,
  'AES-256-GCM': 32,
  'CHACHA20-POLY1305': 32,
};
const NONCE_LENGTH = 12;
const MAX_HEADER = 16;

/** Chosen by us: a plaintext up to this size is copied into the frame, which costs less than a call for each piece. */
const COPY_ALL_UP_TO = 4096 + 1;
/** Chosen by us: and so are pieces up to this size of others. */
const COPY_UP_TO = 64;

/** What all keys of this thread share: nothing here outlives a call. */
class Workshop {
  readonly openSsl: OpenSsl;
  readonly #memory = new Uint8Array(64);
  readonly header = this.#memory.subarray(0, MAX_HEADER);
  readonly tag = this.#memory.subarray(16, 16 + TAG_LENGTH);
  readonly headerAt: number;
  readonly tagAt: number;
  /** Where OpenSSL says how many bytes it wrote: always as many as it read. */
  readonly writtenAt: number;

  constructor(openSsl: OpenSsl) {
    const at = openSsl.addressOf(this.#memory);
    this.openSsl = openSsl;
    this.headerAt = at;
    this.tagAt = at + 16;
    this.writtenAt = at + 32;
  }
}

/** What all keys of an algorithm share. */
interface Algorithm {
  readonly shop: Workshop;
  readonly keyLength: number;
  readonly sealing: CipherContexts;
  readonly opening: CipherContexts;
}

function algorithm(name: AeadName, shop: Workshop): Algorithm | undefined {
  const cipher = shop.openSsl.cipher(NAMES[name]);
  if (cipher === 0) return undefined;
  // GCM has nothing but what is made of its key; of ChaCha20-Poly1305 part of a key stream remains.
  const overwritten = name !== 'CHACHA20-POLY1305';
  const [opening, sealing] = ([0, 1] as const).map(
    (encrypt) => new CipherContexts(shop.openSsl, { cipher, encrypt, overwritten }),
  );
  return opening && sealing && { shop, keyLength: KEY_LENGTH[name], sealing, opening };
}

class EvpAeadKey implements AeadKey {
  readonly #key: Uint8Array;
  readonly #algorithm: Algorithm;
  readonly #shop: Workshop;
  readonly #user = newUser();
  #erased = false;

  constructor(key: Uint8Array, algorithm: Algorithm) {
    if (key.length !== algorithm.keyLength) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
    this.#key = key;
    this.#algorithm = algorithm;
    this.#shop = algorithm.shop;
  }

  seal(
    nonce: Uint8Array,
    header: Uint8Array,
    plaintext: readonly Uint8Array[],
    into: Memory,
    at: number,
  ): number {
    const size = totalLength(plaintext);
    checkRoom(into, at, header.length + size + TAG_LENGTH);
    const context = this.#start(this.#algorithm.sealing, nonce);
    const { openSsl, writtenAt } = this.#shop;
    const { bytes, address } = into;
    put(bytes, header, at);
    succeeded(openSsl.update(context, 0, writtenAt, address + at, header.length));

    const copyUpTo = size <= COPY_ALL_UP_TO ? COPY_ALL_UP_TO : COPY_UP_TO;
    let done = at + header.length;
    let end = done;
    const encryptCopied = (): void => {
      // No bytes are not nothing to OpenSSL: they can mean "final".
      if (end > done)
        succeeded(openSsl.update(context, address + done, writtenAt, address + done, end - done));
    };
    for (const piece of plaintext) {
      if (piece.length <= copyUpTo) put(bytes, piece, end);
      else {
        encryptCopied();
        succeeded(openSsl.updateFrom(context, address + end, writtenAt, piece, piece.length));
        done = end + piece.length;
      }
      end += piece.length;
    }
    encryptCopied();
    succeeded(openSsl.final(context, address + end, writtenAt)); // a stream cipher: writes nothing
    succeeded(openSsl.control(context, GET_TAG, TAG_LENGTH, address + end));
    return end + TAG_LENGTH;
  }

  open(
    nonce: Uint8Array,
    header: Uint8Array,
    ciphertext: readonly Uint8Array[],
    into: Memory,
    at: number,
  ): boolean {
    const size = totalLength(ciphertext) - TAG_LENGTH;
    if (size < 0 || header.length > MAX_HEADER) return false;
    checkRoom(into, at, size);
    const context = this.#start(this.#algorithm.opening, nonce);
    const { openSsl, writtenAt, tag, tagAt, headerAt } = this.#shop;
    put(this.#shop.header, header, 0);
    succeeded(openSsl.update(context, 0, writtenAt, headerAt, header.length));

    let left = size;
    let output = into.address + at;
    let tagLength = 0;
    for (const piece of ciphertext) {
      const length = Math.min(piece.length, left);
      if (length > 0) succeeded(openSsl.updateFrom(context, output, writtenAt, piece, length));
      left -= length;
      output += length;
      for (let i = length; i < piece.length; i++) tag[tagLength++] = piece[i] ?? 0;
    }
    succeeded(openSsl.control(context, SET_TAG, TAG_LENGTH, tagAt));
    if (openSsl.final(context, tagAt, writtenAt) === 1) return true;
    forgetErrors();
    into.bytes.fill(0, at, at + size);
    return false;
  }

  erase(): void {
    if (this.#erased) return;
    this.#erased = true;
    this.#algorithm.sealing.erase(this.#user);
    this.#algorithm.opening.erase(this.#user);
    this.#key.fill(0);
  }

  #start(contexts: CipherContexts, nonce: Uint8Array): number {
    if (this.#erased) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
    if (nonce.length !== NONCE_LENGTH) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
    return contexts.start(this.#user, this.#key, nonce);
  }
}

/** TypedArray.set has a price; bytes are cheap. */
function put(into: Uint8Array, bytes: Uint8Array, at: number): void {
  if (bytes.length > 32) into.set(bytes, at);
  else for (let i = 0; i < bytes.length; i++) into[at + i] = bytes[i] ?? 0;
}

/** The algorithms that work in this process, tested on first use. */
const working = new Map<AeadName, AeadFactory | undefined>();
let workshop: Workshop | undefined;

/** The fast implementation of an algorithm; undefined where this process has none. */
export function evpAead(name: AeadName): AeadFactory | undefined {
  if (!working.has(name)) working.set(name, tested(name));
  return working.get(name);
}

function tested(name: AeadName): AeadFactory | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  try {
    workshop ??= new Workshop(functions);
    const known = algorithm(name, workshop);
    if (known === undefined) return undefined;
    const factory: AeadFactory = (_, key) => new EvpAeadKey(key, known);
    return agreesWithTwin(name, factory) ? factory : undefined;
  } catch {
    return undefined;
  }
}

/** Before first use: what the twin makes of two messages, copied and not copied, and no other. */
function agreesWithTwin(name: AeadName, factory: AeadFactory): boolean {
  const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 0xff);
  const [fast, slow] = [factory, nodeAead].map((make) => make(name, bytes(KEY_LENGTH[name])));
  if (fast === undefined || slow === undefined) return false;
  const header = bytes(3);
  const agree = [100, COPY_ALL_UP_TO + 100].every((length, i) => {
    const nonce = bytes(NONCE_LENGTH + i).subarray(i);
    const plaintext = Buffer.concat([bytes(1), bytes(length)]);
    const room = (size: number): Memory => memoryOf(Buffer.alloc(size));
    const sealed = (key: AeadKey): Uint8Array => {
      const into = room(1 + header.length + plaintext.length + TAG_LENGTH);
      key.seal(nonce, header, [plaintext.subarray(0, 1), plaintext.subarray(1)], into, 1);
      return into.bytes;
    };
    const frame = sealed(fast);
    if (Buffer.compare(frame, sealed(slow)) !== 0) return false;
    const body = frame.subarray(1 + header.length);
    const opened = room(2 + plaintext.length);
    if (!fast.open(nonce, header, [body.subarray(0, 50), body.subarray(50)], opened, 1)) return false;
    if (Buffer.compare(opened.bytes.subarray(1, -1), plaintext) !== 0) return false;
    body[0] = (body[0] ?? 0) ^ 1;
    return !fast.open(nonce, header, [body], opened, 1);
  });
  fast.erase();
  slow.erase();
  return agree;
}
