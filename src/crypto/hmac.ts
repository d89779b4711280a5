/**
 * HMAC-SHA256 (RFC 2104) of two hashes by OpenSSL's SHA-256, which unlike its HMAC() looks nothing up (0.8 µs instead of 1.6), where that
 * can be had; else node:crypto (3.3 µs), which is also its twin. Every derivation of the key schedule is one.
 */
import { createHmac } from 'node:crypto';
import { openSsl } from './openssl.js';

const HASH_LENGTH = 32;

/** HMAC(key, concatenation of `parts`), 32 bytes that nobody else has: whoever asked erases them. */
export type Hmac = (key: Uint8Array, parts: readonly Uint8Array[]) => Uint8Array;

export const nodeHmac: Hmac = (key, parts) => {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
};

/** What SHA-256 works on; keys up to this size are used as they are (RFC 2104 §2). */
const BLOCK = 64;
/** Room for data; what is longer goes the other way. */
const DATA_ROOM = 1024;
/** SHA256_CTX has 112 bytes. */
const STATE_ROOM = 128;

/** The fast implementation; undefined where this process has none. */
export const fastHmac: Hmac | undefined = tested();

export const hmac: Hmac = fastHmac ?? nodeHmac;

function make(): Hmac | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  // Secrets pass through: erased after each use. Its address is known, as it does not move.
  //   state | key ^ ipad | data | key ^ opad | inner hash | hash
  const INNER = STATE_ROOM;
  const DATA = INNER + BLOCK;
  const OUTER = DATA + DATA_ROOM;
  const HASH = OUTER + BLOCK + HASH_LENGTH;
  const memory = new Uint8Array(HASH + HASH_LENGTH);
  const stateAt = functions.addressOf(memory);
  const [innerAt, outerAt] = [stateAt + INNER, stateAt + OUTER];
  const digest = (at: number, length: number, hashAt: number): boolean =>
    functions.sha256Init(stateAt) === 1 &&
    functions.sha256Update(stateAt, at, length) === 1 &&
    functions.sha256Final(hashAt, stateAt) === 1;
  return (key, parts) => {
    let length = 0;
    for (const part of parts) length += part.length;
    if (key.length > BLOCK || length > DATA_ROOM) return nodeHmac(key, parts);
    for (let i = 0; i < BLOCK; i++) {
      const byte = key[i] ?? 0;
      memory[INNER + i] = byte ^ 0x36;
      memory[OUTER + i] = byte ^ 0x5c;
    }
    let at = DATA;
    for (const part of parts) {
      if (part.length > 32) memory.set(part, at);
      else for (let i = 0; i < part.length; i++) memory[at + i] = part[i] ?? 0;
      at += part.length;
    }
    const done =
      digest(innerAt, BLOCK + length, outerAt + BLOCK) &&
      digest(outerAt, BLOCK + HASH_LENGTH, stateAt + HASH);
    const result = memory.slice(HASH);
    memory.fill(0, 0, at);
    memory.fill(0, OUTER);
    return done ? result : nodeHmac(key, parts);
  };
}

/** Before first use: what the twin makes of the same. */
function tested(): Hmac | undefined {
  try {
    const fast = make();
    const key = Uint8Array.from({ length: 32 }, (_, i) => i);
    const parts = [Uint8Array.of(1, 2), new Uint8Array(200).fill(7)];
    return fast !== undefined && Buffer.compare(fast(key, parts), nodeHmac(key, parts)) === 0
      ? fast
      : undefined;
  } catch {
    return undefined;
  }
}
