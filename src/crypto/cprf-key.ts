/**
 * CPRF (RFC 8548 §3.3) under one key, several times. HMAC begins with a block made of the key, inside and outside
 * (RFC 2104 §2): SHA-256's states after these two blocks are all that is ever needed of the key. They are made once, and
 * what follows fits into one block each, so a derivation is two calls of OpenSSL's compression function: 0.4 µs, where
 * {@link cprf}, the readable twin, makes all four blocks anew.
 */
import { cprf } from './hkdf.js';
import { type OpenSsl, openSsl } from './openssl.js';

/** A key that values are derived from. */
export interface CprfKey {
  /**
   * Writes CPRF(K, constant | context, length) to the beginning of `into`.
   * @param context at most 20 bytes
   * @param length at most 64
   */
  derive(constant: number, context: Uint8Array, into: Uint8Array, length: number): void;
  /** The same key, to be erased independently. */
  clone(): CprfKey;
  /** Nothing can be derived afterwards. */
  erase(): void;
}

/** Copies what it needs of `key`, at most 64 bytes. */
export type CprfKeyFactory = (key: Uint8Array) => CprfKey;

export const plainCprfKey: CprfKeyFactory = (key) => new PlainCprfKey(new Uint8Array(key));

class PlainCprfKey implements CprfKey {
  readonly #key: Uint8Array;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  derive(constant: number, context: Uint8Array, into: Uint8Array, length: number): void {
    const value = cprf(this.#key, [Uint8Array.of(constant), context], length);
    into.set(value);
    value.fill(0);
  }

  clone(): CprfKey {
    return plainCprfKey(this.#key);
  }

  erase(): void {
    this.#key.fill(0);
  }
}

const HASH_LENGTH = 32;
/** What SHA-256 works on, in bytes; its state, in words. */
const BLOCK = 64;
const WORDS = 8;
/** SHA256_CTX begins with the state, and has 112 bytes. */
const CONTEXT_ROOM = 128;
/** FIPS 180-4 §5.3.3. */
const INITIAL = Uint32Array.of(
  0x6a09e667,
  0xbb67ae85,
  0x3c6ef372,
  0xa54ff53a,
  0x510e527f,
  0x9b05688c,
  0x1f83d9ab,
  0x5be0cd19,
);

/** Calls OpenSSL: SHA-256 of one block at a time. */
class Compressor {
  /**
   * state | a block | the outer block of an HMAC, which is always the inner hash and this padding (FIPS 180-4 §5.1.1).
   * Secrets pass through, and are erased after each use. The address is known, as it does not move.
   */
  readonly #memory = new Uint8Array(CONTEXT_ROOM + 2 * BLOCK);
  readonly #state = new Uint32Array(this.#memory.buffer, 0, WORDS);
  readonly #block = new Uint8Array(this.#memory.buffer, CONTEXT_ROOM, BLOCK);
  readonly #blockWords = new Uint32Array(this.#memory.buffer, CONTEXT_ROOM, BLOCK / 4);
  readonly #outer = new DataView(this.#memory.buffer, CONTEXT_ROOM + BLOCK, BLOCK);
  readonly #stateAt: number;
  readonly #blockAt: number;
  readonly #outerAt: number;
  readonly #openSsl: OpenSsl;

  constructor(openSsl: OpenSsl) {
    this.#stateAt = openSsl.addressOf(this.#memory);
    this.#blockAt = this.#stateAt + CONTEXT_ROOM;
    this.#outerAt = this.#blockAt + BLOCK;
    this.#openSsl = openSsl;
    this.#outer.setUint8(HASH_LENGTH, 0x80);
    this.#outer.setUint16(BLOCK - 2, 8 * (BLOCK + HASH_LENGTH));
  }

  /** SHA-256's state after key ^ ipad, then that after key ^ opad. */
  prepared(key: Uint8Array): Uint32Array {
    const states = new Uint32Array(2 * WORDS);
    this.#prepare(key, 0x36363636, states, 0);
    this.#prepare(key, 0x5c5c5c5c, states, WORDS);
    return states;
  }

  /** T1, or T2 where T1 stands at the beginning of `into`; so much of it as is wanted of `length` bytes in all. */
  cprf(
    states: Uint32Array,
    n: 1 | 2,
    constant: number,
    context: Uint8Array,
    into: Uint8Array,
    length: number,
  ): void {
    const state = this.#state;
    const block = this.#block;
    const outer = this.#outer;
    let at = 0;
    if (n === 2) for (; at < HASH_LENGTH; at++) block[at] = into[at] ?? 0;
    block[at++] = constant;
    for (let i = 0; i < context.length; i++) block[at++] = context[i] ?? 0;
    block[at++] = n;
    block[at] = 0x80;
    const bits = 8 * (BLOCK + at);
    block[BLOCK - 2] = bits >>> 8;
    block[BLOCK - 1] = bits;
    for (let i = 0; i < WORDS; i++) state[i] = states[i] ?? 0;
    this.#openSsl.sha256Block(this.#stateAt, this.#blockAt);

    for (let i = 0; i < WORDS; i++) outer.setUint32(4 * i, state[i] ?? 0);
    for (let i = 0; i < WORDS; i++) state[i] = states[WORDS + i] ?? 0;
    this.#openSsl.sha256Block(this.#stateAt, this.#outerAt);

    const from = (n - 1) * HASH_LENGTH;
    for (let i = 0; i < WORDS; i++) outer.setUint32(4 * i, state[i] ?? 0);
    for (let i = from; i < length && i < from + HASH_LENGTH; i++) into[i] = outer.getUint8(i - from);
    for (let i = 0; i < WORDS; i++) outer.setUint32(4 * i, 0);
    this.#erase();
  }

  #prepare(key: Uint8Array, pad: number, states: Uint32Array, at: number): void {
    const state = this.#state;
    const block = this.#block;
    const words = this.#blockWords;
    for (let i = 0; i < key.length; i++) block[i] = key[i] ?? 0;
    for (let i = 0; i < BLOCK / 4; i++) words[i] = (words[i] ?? 0) ^ pad;
    for (let i = 0; i < WORDS; i++) state[i] = INITIAL[i] ?? 0;
    this.#openSsl.sha256Block(this.#stateAt, this.#blockAt);
    for (let i = 0; i < WORDS; i++) states[at + i] = state[i] ?? 0;
    this.#erase();
  }

  #erase(): void {
    const state = this.#state;
    const words = this.#blockWords;
    for (let i = 0; i < WORDS; i++) state[i] = 0;
    for (let i = 0; i < BLOCK / 4; i++) words[i] = 0;
  }
}

/** What stands in a block with the constant, the context and the counter: the block before, and the padding. */
const MAX_CONTEXT = BLOCK - HASH_LENGTH - 2 - 9;

class FastCprfKey implements CprfKey {
  readonly #compressor: Compressor;
  /** Inside, outside. */
  readonly #states: Uint32Array;

  constructor(compressor: Compressor, states: Uint32Array) {
    this.#compressor = compressor;
    this.#states = states;
  }

  derive(constant: number, context: Uint8Array, into: Uint8Array, length: number): void {
    if (context.length > MAX_CONTEXT) throw new RangeError('context too long');
    if (length > into.length || length > 2 * HASH_LENGTH) throw new RangeError('too much');
    this.#compressor.cprf(this.#states, 1, constant, context, into, length);
    if (length > HASH_LENGTH) this.#compressor.cprf(this.#states, 2, constant, context, into, length);
  }

  clone(): CprfKey {
    return new FastCprfKey(this.#compressor, new Uint32Array(this.#states));
  }

  erase(): void {
    this.#states.fill(0);
  }
}

/** The fast implementation; undefined where this process has none. */
export const fastCprfKey: CprfKeyFactory | undefined = tested();

export const cprfKey: CprfKeyFactory = fastCprfKey ?? plainCprfKey;

/** Before first use: what the twin makes of the same. */
function tested(): CprfKeyFactory | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  const compressor = new Compressor(functions);
  const fast: CprfKeyFactory = (key) => new FastCprfKey(compressor, compressor.prepared(key));
  const bytes = Uint8Array.from({ length: 32 }, (_, i) => i * 7);
  const [ours, twin] = [fast(bytes), plainCprfKey(bytes)];
  const agree = [18, 32, 44].every((length) => {
    const [one, other] = [new Uint8Array(length), new Uint8Array(length)];
    ours.derive(length, bytes.subarray(16), one, length);
    twin.derive(length, bytes.subarray(16), other, length);
    return Buffer.compare(one, other) === 0;
  });
  return agree ? fast : undefined;
}
