/**
 * HKDF with HMAC-SHA256 (RFC 5869), under the names of RFC 8548 §3.3. `hkdfSync` costs four to eight times as much
 * (12 µs for 32 bytes).
 */
import { TcpcryptError } from '../errors.js';
import { hmac } from './hmac.js';

const HASH_LENGTH = 32;
const MAX_BLOCKS = 255;
const COUNTER_ONE = Uint8Array.of(1);

/** Extract(S, IKM) = HMAC(key = S, IKM), 32 bytes; IKM is the concatenation of `inputs`. */
export function extract(salt: Uint8Array, inputs: readonly Uint8Array[]): Uint8Array {
  return hmac(salt, inputs);
}

/**
 * CPRF(K, C, L) = first L bytes of T1 | T2 | …, where T1 = HMAC(K, C | 0x01) and Tn = HMAC(K, T(n-1) | C | n).
 * C is the concatenation of `info`. At most 255 * 32 bytes.
 */
export function cprf(key: Uint8Array, info: readonly Uint8Array[], length: number): Uint8Array {
  if (length === HASH_LENGTH) return hmac(key, [...info, COUNTER_ONE]);
  const blocks = Math.ceil(length / HASH_LENGTH);
  if (blocks > MAX_BLOCKS)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'CPRF output too long' });
  // Not from Buffer's shared pool: the result is a secret, and is erased by its owner.
  const output = new Uint8Array(length);
  let previous: Uint8Array | undefined;
  for (let n = 1; n <= blocks; n++) {
    const counter = Uint8Array.of(n);
    const block = hmac(key, previous === undefined ? [...info, counter] : [previous, ...info, counter]);
    output.set(block.subarray(0, length - (n - 1) * HASH_LENGTH), (n - 1) * HASH_LENGTH);
    previous?.fill(0);
    previous = block;
  }
  previous?.fill(0);
  return output;
}
