/**
 * One key pair for all connections that a server accepts within a bounded time (RFC 8548 §3.3, TC-8). Forward secrecy is then
 * as fine as that time; the nonces N_A and N_B keep the keys of all connections different.
 *
 *     first Init1                          lifetime
 *     │ made, and answers each Init1 since │ erased; the next Init1 makes another
 */
import { generateKeyPair, type KeyPair, TEPS, type TepId } from '../session/index.js';

/** Chosen by us: milliseconds. It saves a server half of its public-key work, and a minute would not save more. */
export const KEY_LIFETIME = 1000;
/** The longest time for which RFC 8548's drafts recommended to use a key pair: two minutes (draft-04 §9). */
export const MAX_KEY_LIFETIME = 120_000;

export class SharedKeyPairs {
  readonly #pairs = new Map<TepId, KeyPair>();

  /** @param lifetime milliseconds */
  constructor(readonly lifetime: number) {}

  /** The pair of the moment, for now: who wants it later asks again. It is not the caller's to erase. */
  current(tep: TepId): KeyPair {
    const current = this.#pairs.get(tep);
    if (current !== undefined) return current;
    const pair = generateKeyPair(TEPS[tep].curve);
    this.#pairs.set(tep, pair);
    setTimeout(() => {
      this.#pairs.delete(tep);
      pair.erase();
    }, this.lifetime).unref();
    return pair;
  }
}
