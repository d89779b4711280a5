/** Domain separation: every hash, key and signature of ours begins with its own label and the version. */
import { hash } from 'node:crypto';
import { cprf, extract } from '../crypto/hkdf.js';
import { prefixed } from './bytes.js';

const label = (purpose: string): string => `tcpcrypt-auth/1 ${purpose}`;

/** SHA-256 over the label and the length-prefixed parts. */
export const labelledHash = (purpose: string, parts: readonly (Uint8Array | string)[]): Buffer =>
  hash('sha256', Buffer.concat([prefixed(label(purpose)), ...parts.map(prefixed)]), 'buffer');

/** HKDF-SHA256 (RFC 5869) of a secret for one purpose: keys of different purposes tell nothing of one another. */
export function purposeKey(secret: Uint8Array, purpose: string, parts: readonly Uint8Array[] = []): Buffer {
  const info = Buffer.concat([prefixed(label(purpose)), ...parts.map(prefixed)]);
  return Buffer.from(cprf(extract(new Uint8Array(32), [secret]), [info], 32));
}
