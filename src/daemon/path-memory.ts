/**
 * What the daemon remembers about destinations, so that a plain one costs a look-up and not a probe.
 * Bounded in number and time. Never consulted where encryption is required.
 */

/** Tuned by us. */
export const PLAIN_LIFETIME = 10 * 60_000;
export const MEMORY_LIMIT = 16_384;
/**
 * A destination that has encrypted before is believed to be plain after so many plain answers in a row: a single
 * one (SYN cookies, a lost option, a restart) must not switch encryption off for minutes.
 */
export const PLAIN_ANSWERS = 3;

interface Destination {
  /** It has encrypted. */
  readonly encrypts: boolean;
  /** Plain answers since. */
  readonly plainAnswers: number;
  /** When it is forgotten (ms). */
  readonly until: number;
}

export class PathMemory {
  /** By "address port", in the order of the last answer: the first is the oldest. */
  readonly #destinations = new Map<string, Destination>();

  constructor(
    readonly lifetime: number = PLAIN_LIFETIME,
    readonly limit: number = MEMORY_LIMIT,
  ) {}

  get size(): number {
    return this.#destinations.size;
  }

  /** The destination answered, with ENO or without. `now` in milliseconds. */
  remember(address: string, port: number, encrypted: boolean, now: number): void {
    const key = `${address} ${port}`;
    const earlier = this.#lookUp(key, now);
    this.#destinations.delete(key);
    this.#destinations.set(key, {
      encrypts: encrypted || (earlier?.encrypts ?? false),
      plainAnswers: encrypted ? 0 : (earlier?.plainAnswers ?? 0) + 1,
      until: now + this.lifetime,
    });
    if (this.#destinations.size > this.limit) {
      const oldest = this.#destinations.keys().next();
      if (!oldest.done) this.#destinations.delete(oldest.value);
    }
  }

  isPlain(address: string, port: number, now: number): boolean {
    const known = this.#lookUp(`${address} ${port}`, now);
    return known !== undefined && known.plainAnswers >= (known.encrypts ? PLAIN_ANSWERS : 1);
  }

  flush(): void {
    this.#destinations.clear();
  }

  #lookUp(key: string, now: number): Destination | undefined {
    const known = this.#destinations.get(key);
    if (known === undefined || known.until > now) return known;
    this.#destinations.delete(key);
    return undefined;
  }
}
