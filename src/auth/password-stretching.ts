/** Making a guess expensive: scrypt (RFC 7914), on a thread of the pool. */
import { scrypt } from 'node:crypto';

/** What a guess costs (scrypt, RFC 7914). */
export interface StretchCost {
  /** Base-2 logarithm of N. */
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

/** RFC 9383 §4 asks for N=32768, r=8, p=1 at least: 32 MiB, about 80 ms. */
export const DEFAULT_COST: StretchCost = { logN: 15, r: 8, p: 1 };
/** What a server may ask of a client: not less, so that nobody weakens it, and not more than 256 MiB, twice. */
const COST_BOUNDS = { min: DEFAULT_COST, max: { logN: 18, r: 8, p: 2 } } as const;

export const acceptableCost = ({ logN, r, p }: StretchCost): boolean =>
  logN >= COST_BOUNDS.min.logN &&
  logN <= COST_BOUNDS.max.logN &&
  r === COST_BOUNDS.min.r &&
  p >= COST_BOUNDS.min.p &&
  p <= COST_BOUNDS.max.p;

export function stretch(
  password: Uint8Array,
  salt: Uint8Array,
  { logN, r, p }: StretchCost,
  length: number,
): Promise<Buffer> {
  const N = 2 ** logN;
  return new Promise((resolve, reject) => {
    scrypt(password, salt, length, { N, r, p, maxmem: 256 * N * r }, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}
