import { type CipherGCM, createCipheriv, createDecipheriv, type DecipherGCM } from 'node:crypto';
import { TcpcryptError } from '../errors.js';

export type AeadName = 'AES-128-GCM' | 'AES-256-GCM' | 'CHACHA20-POLY1305';

/** Every AEAD of tcpcrypt appends a tag of this length (RFC 5116 §5, RFC 8439 §2.8). */
export const TAG_LENGTH = 16;

/**
 * One AEAD key in use. Messages come and go as lists of pieces, so that an implementation may work in place, or
 * avoid copies, as suits it.
 */
export interface AeadKey {
  /**
   * Encrypts the concatenation of `plaintext`. `header` is the associated data, and stands right before the
   * ciphertext on the wire: the result is header | ciphertext | tag, in as few pieces as are cheap. Never twice
   * with one nonce (TC-32). The arguments are not changed and not kept.
   */
  seal(nonce: Uint8Array, header: Uint8Array, plaintext: readonly Uint8Array[]): Uint8Array[];
  /**
   * Decrypts the concatenation of `ciphertext`, whose last 16 bytes are the tag. Gives no plaintext, but
   * undefined, unless the tag is right. The plaintext is put into `into`, of its length; without it the ciphertext is
   * used up, as the plaintext may take its place.
   */
  open(
    nonce: Uint8Array,
    header: Uint8Array,
    ciphertext: readonly Uint8Array[],
    into?: Uint8Array,
  ): Uint8Array[] | undefined;
  /** Erases the key; `seal` and `open` then throw ERR_TCPCRYPT_CLOSED. */
  erase(): void;
}

/** Takes over `key`: it is erased with the result. */
export type AeadFactory = (name: AeadName, key: Uint8Array) => AeadKey;

/** AEAD by node:crypto, everywhere: one OpenSSL context for each message, 4 µs and 0.6 µs for each KiB. */
export const nodeAead: AeadFactory = (name, key) => new NodeAeadKey(name, key);

/** One message of one key, in the types of node:crypto. */
interface Algorithm {
  readonly cipher: (key: Uint8Array, nonce: Uint8Array) => CipherGCM;
  readonly decipher: (key: Uint8Array, nonce: Uint8Array) => DecipherGCM;
}

const ALGORITHMS: { readonly [name in AeadName]: Algorithm } = {
  'AES-128-GCM': {
    cipher: (key, nonce) => createCipheriv('aes-128-gcm', key, nonce),
    decipher: (key, nonce) => createDecipheriv('aes-128-gcm', key, nonce, { authTagLength: TAG_LENGTH }),
  },
  'AES-256-GCM': {
    cipher: (key, nonce) => createCipheriv('aes-256-gcm', key, nonce),
    decipher: (key, nonce) => createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_LENGTH }),
  },
  'CHACHA20-POLY1305': {
    cipher: (key, nonce) => createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_LENGTH }),
    decipher: (key, nonce) =>
      createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_LENGTH }),
  },
};

/** Chosen by us: a plaintext up to this size is copied into one buffer, which costs less than more pieces do. */
const JOIN_UP_TO = 4608;

class NodeAeadKey implements AeadKey {
  readonly #algorithm: Algorithm;
  readonly #key: Uint8Array;
  #erased = false;

  constructor(name: AeadName, key: Uint8Array) {
    this.#algorithm = ALGORITHMS[name];
    this.#key = key;
  }

  seal(nonce: Uint8Array, header: Uint8Array, plaintext: readonly Uint8Array[]): Uint8Array[] {
    this.#check();
    const cipher = this.#algorithm.cipher(this.#key, nonce);
    cipher.setAAD(header);
    const size = totalLength(plaintext);
    if (size <= JOIN_UP_TO) {
      const frame = Buffer.allocUnsafe(header.length + size + TAG_LENGTH);
      const body = join(plaintext, size);
      frame.set(header);
      frame.set(cipher.update(body), header.length);
      cipher.final();
      frame.set(cipher.getAuthTag(), header.length + size);
      return [frame];
    }
    // The first piece is the frame's flags: a byte or three, worth joining to the header.
    const [first = new Uint8Array(), ...rest] = plaintext;
    const pieces: Uint8Array[] = [Buffer.concat([header, cipher.update(first)])];
    for (const piece of rest) pieces.push(cipher.update(piece));
    cipher.final(); // of a stream cipher: no bytes
    pieces.push(cipher.getAuthTag());
    return pieces;
  }

  open(
    nonce: Uint8Array,
    header: Uint8Array,
    ciphertext: readonly Uint8Array[],
    into?: Uint8Array,
  ): Uint8Array[] | undefined {
    let left = totalLength(ciphertext) - TAG_LENGTH;
    if (left < 0) return undefined;
    this.#check();
    const decipher = this.#algorithm.decipher(this.#key, nonce);
    decipher.setAAD(header);
    const plaintext: Uint8Array[] = [];
    const tag: Uint8Array[] = [];
    for (const piece of ciphertext) {
      if (left >= piece.length) plaintext.push(decipher.update(piece));
      else {
        if (left > 0) plaintext.push(decipher.update(piece.subarray(0, left)));
        tag.push(left > 0 ? piece.subarray(left) : piece);
      }
      left = Math.max(0, left - piece.length);
    }
    const [whole] = tag;
    decipher.setAuthTag(tag.length === 1 && whole !== undefined ? whole : join(tag, TAG_LENGTH));
    try {
      decipher.final();
    } catch {
      for (const piece of plaintext) piece.fill(0);
      return undefined;
    }
    if (into === undefined) return plaintext;
    let at = 0;
    for (const piece of plaintext) {
      into.set(piece, at);
      at += piece.length;
    }
    return [into];
  }

  erase(): void {
    this.#key.fill(0);
    this.#erased = true;
  }

  #check(): void {
    if (this.#erased) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
  }
}

const totalLength = (pieces: readonly Uint8Array[]): number => {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  return length;
};

function join(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const joined = Buffer.allocUnsafe(length);
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}
