/**
 * One key pair for all connections that a server accepts within a bounded time (RFC 8548 §3.3, TC-8): an option for
 * servers to which a key pair for each connection is too much. Forward secrecy is then as fine as that time.
 *
 *     0            lifetime            lifetime + handshake
 *     │ handed out │ in use by those   │ erased
 *                    that have it
 */
import { generateKeyPair, type KeyPair, TEPS, type TepId } from '../session/index.js';

/** The longest time for which RFC 8548's drafts recommended to use a key pair: two minutes (draft-04 §9). */
export const MAX_KEY_LIFETIME = 120_000;

export class SharedKeyPairs {
  readonly #pairs = new Map<TepId, KeyPair>();

  /**
   * @param lifetime  milliseconds for which a pair is handed out
   * @param handshake milliseconds in which whoever got it is done with it
   */
  constructor(
    readonly lifetime: number,
    readonly handshake: number,
  ) {}

  /** The pair of the moment. It is not the caller's to erase. */
  take(tep: TepId): KeyPair {
    const current = this.#pairs.get(tep);
    if (current !== undefined) return current;
    const pair = generateKeyPair(TEPS[tep].curve);
    this.#pairs.set(tep, pair);
    setTimeout(() => {
      this.#pairs.delete(tep);
      setTimeout(() => pair.erase(), this.handshake).unref();
    }, this.lifetime).unref();
    return pair;
  }
}
