import { randomFillSync } from 'node:crypto';

/** Chosen by us: one call of the generator costs 3 µs, for 32 bytes as for a thousand. */
const POOL = 1024;

const pool = new Uint8Array(POOL);
let used = POOL;

/**
 * Random bytes that the world will see, such as nonces: made ahead. Never for secrets: those are made when they are
 * needed and erased afterwards.
 */
export function publicRandomBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  if (size > POOL) return randomFillSync(bytes);
  if (used + size > POOL) {
    randomFillSync(pool);
    used = 0;
  }
  for (let i = 0; i < size; i++) bytes[i] = pool[used + i] ?? 0;
  used += size;
  return bytes;
}
