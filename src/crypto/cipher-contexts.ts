/**
 * OpenSSL's contexts of one AEAD algorithm and one direction, which all keys share. In each is the key of the message
 * before, so a key that is used again costs nothing; one that finds another in its place is put in anew: 0.4 µs, where a
 * context of its own would be 1.3 µs, a finalizer and 1 KB. A key therefore holds nothing that must be freed, and what
 * is left here of one that was forgotten instead of erased goes with the next that comes by.
 */
import { TcpcryptError } from '../errors.js';
import { type OpenSsl, succeeded } from './openssl.js';

/** Chosen by us: so many keys can be in use without being put in anew, unless two want the same place. */
const CONTEXTS = 256;
const MAX_KEY = 32;
const MAX_NONCE = 16;

export interface CipherContextsOptions {
  /** EVP_CIPHER * */
  readonly cipher: number;
  readonly encrypt: 1 | 0;
  /** A new key leaves nothing of the one before; otherwise it takes the end of the context to erase that. */
  readonly overwritten: boolean;
}

export class CipherContexts {
  readonly #openSsl: OpenSsl;
  readonly #options: CipherContextsOptions;
  /** EVP_CIPHER_CTX *; 0 where there is none yet. */
  readonly #contexts = new Float64Array(CONTEXTS);
  /** Whose key is in it; 0: nobody's. */
  readonly #users = new Float64Array(CONTEXTS);
  /** A key on its way to OpenSSL, then a nonce. */
  readonly #memory = new Uint8Array(MAX_KEY + MAX_NONCE);
  readonly #keyAt: number;
  readonly #nonceAt: number;

  constructor(openSsl: OpenSsl, options: CipherContextsOptions) {
    this.#openSsl = openSsl;
    this.#options = options;
    this.#keyAt = openSsl.addressOf(this.#memory);
    this.#nonceAt = this.#keyAt + MAX_KEY;
  }

  /**
   * A context with this key and nonce in it, until the next call.
   * @param user who has the key, see {@link newUser}
   */
  start(user: number, key: Uint8Array, nonce: Uint8Array): number {
    const at = user % CONTEXTS;
    for (let i = 0; i < nonce.length; i++) this.#memory[MAX_KEY + i] = nonce[i] ?? 0;
    const context = this.#contexts[at] ?? 0;
    if (this.#users[at] !== user) return this.#putIn(at, user, key);
    succeeded(this.#openSsl.initCipher(context, 0, 0, 0, this.#nonceAt, -1));
    return context;
  }

  /** Erases the key of `user`, if it is here. */
  erase(user: number): void {
    const at = user % CONTEXTS;
    if (this.#users[at] !== user) return;
    this.#memory.fill(0);
    if (this.#options.overwritten) this.#putIn(at, 0, NO_KEY);
    else this.#free(at);
  }

  /** With the nonce that is in our memory. */
  #putIn(at: number, user: number, key: Uint8Array): number {
    const { cipher, encrypt } = this.#options;
    const old = this.#contexts[at] ?? 0;
    const context = old === 0 ? this.#openSsl.newCipherContext() : old;
    if (context === 0) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
    this.#contexts[at] = context;
    this.#users[at] = user;
    for (let i = 0; i < key.length; i++) this.#memory[i] = key[i] ?? 0;
    const type = old === 0 ? cipher : 0;
    const result = this.#openSsl.initCipher(context, type, 0, this.#keyAt, this.#nonceAt, encrypt);
    this.#memory.fill(0);
    if (result !== 1) this.#free(at);
    succeeded(result);
    return context;
  }

  #free(at: number): void {
    this.#openSsl.freeCipherContext(this.#contexts[at] ?? 0);
    this.#contexts[at] = 0;
    this.#users[at] = 0;
  }
}

const NO_KEY = new Uint8Array();

let users = 0;

/** For whoever has a key, one for all its contexts. */
export function newUser(): number {
  users += 1;
  return users;
}
