/**
 * Slows down guessing of passwords: so many failed attempts for one name in a while, and so many from one address. An
 * attempt counts from its beginning, and stops counting when it succeeds; whoever breaks off has used it up.
 */
import { isIPv6 } from 'node:net';

export interface Attempt {
  readonly user: string;
  readonly remoteAddress: string | undefined;
}

/** Asked before a password is checked. */
export interface GuessLimit {
  /** Whether the attempt may go on; if so, it counts as failed until `succeeded`. */
  begin(attempt: Attempt): boolean | PromiseLike<boolean>;
  succeeded(attempt: Attempt): void | PromiseLike<void>;
}

/** Options of {@link GuessLimiter}. */
export interface GuessLimiterOptions {
  /** Failed attempts for one user; default 10. */
  readonly perUser?: number;
  /** Failed attempts from one address, with IPv6 from one network of 64 bits, as whoever has one address has all; default 30. */
  readonly perAddress?: number;
  /** Milliseconds after which attempts are forgotten; default 60,000. */
  readonly window?: number;
}

/** Names and addresses that are remembered at most; then those of longest ago are forgotten. */
const ENTRIES_LIMIT = 10_000;

interface Count {
  since: number;
  failures: number;
}

/** In the memory of this process. */
export class GuessLimiter implements GuessLimit {
  readonly #counts = new Map<string, Count>();
  readonly #perUser: number;
  readonly #perAddress: number;
  readonly #window: number;
  readonly #now: () => number;

  constructor(
    { perUser = 10, perAddress = 30, window = 60_000 }: GuessLimiterOptions = {},
    now: () => number = Date.now,
  ) {
    this.#perUser = perUser;
    this.#perAddress = perAddress;
    this.#window = window;
    this.#now = now;
  }

  begin(attempt: Attempt): boolean {
    const limits = this.#limits(attempt);
    if (limits.some(([key, limit]) => this.#count(key).failures >= limit)) return false;
    for (const [key] of limits) this.#count(key).failures++;
    return true;
  }

  succeeded(attempt: Attempt): void {
    for (const [key] of this.#limits(attempt)) {
      const count = this.#count(key);
      count.failures = Math.max(0, count.failures - 1);
    }
  }

  #limits({ user, remoteAddress = '' }: Attempt): [string, number][] {
    return [
      [`user ${user}`, this.#perUser],
      [`address ${origin(remoteAddress)}`, this.#perAddress],
    ];
  }

  #count(key: string): Count {
    const now = this.#now();
    let count = this.#counts.get(key);
    this.#counts.delete(key);
    if (count === undefined || now - count.since > this.#window) count = { since: now, failures: 0 };
    this.#counts.set(key, count); // last, as the youngest
    if (this.#counts.size > ENTRIES_LIMIT) {
      const [oldest] = this.#counts.keys();
      if (oldest !== undefined) this.#counts.delete(oldest);
    }
    return count;
  }
}

/** Of an IPv6 address the first 64 bits, in one spelling; anything else as it is. */
function origin(address: string): string {
  const [bare = ''] = address.split('%');
  if (!isIPv6(bare) || bare.includes('.')) return address;
  const [head = '', tail] = bare.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros: string[] = Array(8 - before.length - after.length).fill('0');
  const groups = tail === undefined ? before : [...before, ...zeros, ...after];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
