/** Key pairs that are the same in every run: what is made of them can be repeated. */
import { createHash } from 'node:crypto';
import { importKeyPair, type KeyPair } from '#src/crypto/index.js';
import { TEPS, type TepId } from '#src/wire/index.js';

const PRIVATE_KEY_LENGTH = { 'P-256': 32, 'P-521': 66, X25519: 32, X448: 56 } as const;

const cache = new Map<string, KeyPair>();

/** The key pair of that name. A NIST scalar begins with a zero byte, so it is below the order of its curve. */
export function fixedKeyPair(name: string, tep: TepId): KeyPair {
  const label = `${name} ${tep}`;
  const known = cache.get(label);
  if (known !== undefined) return known;
  const { curve } = TEPS[tep];
  const digest = createHash('shake256', { outputLength: PRIVATE_KEY_LENGTH[curve] }).update(label).digest();
  digest[0] = 0;
  const pair = importKeyPair(curve, digest);
  cache.set(label, pair);
  return pair;
}
