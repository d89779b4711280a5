/**
 * What the daemon remembers about destinations, so that a plain one costs a look-up and not a probe.
 * Bounded in number and time. Never consulted where encryption is required.
 */

/** Tuned by us. */
export const PLAIN_LIFETIME = 10 * 60_000;
export const MEMORY_LIMIT = 16_384;

export class PathMemory {
  /** "address port" → when it is forgotten (ms); in the order of insertion, so the first is the oldest. */
  readonly #plain = new Map<string, number>();

  constructor(
    readonly lifetime: number = PLAIN_LIFETIME,
    readonly limit: number = MEMORY_LIMIT,
  ) {}

  get size(): number {
    return this.#plain.size;
  }

  /** The destination answered, without ENO. `now` in milliseconds. */
  rememberPlain(address: string, port: number, now: number): void {
    const key = `${address} ${port}`;
    this.#plain.delete(key);
    this.#plain.set(key, now + this.lifetime);
    if (this.#plain.size > this.limit) {
      const oldest = this.#plain.keys().next();
      if (!oldest.done) this.#plain.delete(oldest.value);
    }
  }

  isPlain(address: string, port: number, now: number): boolean {
    const key = `${address} ${port}`;
    const until = this.#plain.get(key);
    if (until === undefined) return false;
    if (until > now) return true;
    this.#plain.delete(key);
    return false;
  }

  flush(): void {
    this.#plain.clear();
  }
}
