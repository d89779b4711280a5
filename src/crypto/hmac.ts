/**
 * HMAC-SHA256: one call of OpenSSL's HMAC() where that can be had (1.4 µs), else node:crypto (3.3 µs), which is
 * also its twin. Every derivation of the key schedule is one.
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

/** Room for key and data; what is longer goes the other way. */
const KEY_ROOM = 64;
const DATA_ROOM = 1024;

/** The fast implementation; undefined where this process has none. */
export const fastHmac: Hmac | undefined = tested();

export const hmac: Hmac = fastHmac ?? nodeHmac;

function make(): Hmac | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  // Secrets pass through: erased after each use. Its address is known, as it does not move.
  const memory = new Uint8Array(KEY_ROOM + DATA_ROOM + HASH_LENGTH);
  const keyAt = functions.addressOf(memory);
  const dataAt = keyAt + KEY_ROOM;
  const hashAt = dataAt + DATA_ROOM;
  const hash = memory.subarray(KEY_ROOM + DATA_ROOM);
  const sha256 = functions.sha256();
  return (key, parts) => {
    let length = 0;
    for (const part of parts) length += part.length;
    if (key.length > KEY_ROOM || length > DATA_ROOM) return nodeHmac(key, parts);
    memory.set(key);
    let at = KEY_ROOM;
    for (const part of parts) {
      memory.set(part, at);
      at += part.length;
    }
    const done = functions.hmac(sha256, keyAt, key.length, dataAt, length, hashAt, 0);
    const result = hash.slice();
    memory.fill(0, 0, at);
    hash.fill(0);
    return done === 0 ? nodeHmac(key, parts) : result;
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
