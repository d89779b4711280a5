/** An AEAD key, for whoever wants to see its results as values. */
import { type AeadKey, memoryOf, TAG_LENGTH } from '#src/crypto/index.js';
import { concat } from './vectors.js';

/** header | ciphertext | tag */
export function seal(
  key: AeadKey,
  nonce: Uint8Array,
  header: Uint8Array,
  plaintext: readonly Uint8Array[],
): Uint8Array {
  const bytes = new Uint8Array(header.length + concat(plaintext).length + TAG_LENGTH);
  key.seal(nonce, header, plaintext, memoryOf(bytes), 0);
  return bytes;
}

/** The plaintext; undefined unless it is authentic. */
export function open(
  key: AeadKey,
  nonce: Uint8Array,
  header: Uint8Array,
  ciphertext: readonly Uint8Array[],
): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.max(0, concat(ciphertext).length - TAG_LENGTH));
  return key.open(nonce, header, ciphertext, memoryOf(bytes), 0) ? bytes : undefined;
}
