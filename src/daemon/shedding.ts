/**
 * Connections that are not taken because a limit is reached: counted each, logged once when it begins and once when it
 * is over. Whoever floods us must not fill the log as well.
 */
import type { Logger } from 'pino';
import { ReasonCounter } from './reason-counter.js';

/** Which limit: relayed connections, held SYNs, file descriptors, key exchanges, local ports for one destination. */
export type Limit = 'connections' | 'held' | 'files' | 'handshakes' | 'ports';

/** It is over when nothing was shed for so long (ms). */
const QUIET = 10_000;

export class Shedding {
  readonly counts = new ReasonCounter();
  readonly #logger: Logger;
  #since: number | undefined;
  #last = 0;
  #count = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** It is going on now. */
  get active(): boolean {
    return this.#since !== undefined;
  }

  shed(limit: Limit): void {
    this.counts.count(limit);
    this.#count++;
    this.#last = Date.now();
    if (this.#since !== undefined) return;
    this.#since = this.#last;
    this.#logger.warn(
      { event: 'shedding', limit },
      'a limit is reached: new connections stay plain TCP, or are refused where the policy is private',
    );
    this.#timer = setInterval(() => this.#look(), QUIET / 10).unref();
  }

  #look(): void {
    if (this.#since === undefined || Date.now() - this.#last < QUIET) return;
    this.#logger.warn(
      { event: 'shedding-over', connections: this.#count, seconds: (this.#last - this.#since) / 1000 },
      'connections are taken again',
    );
    clearInterval(this.#timer);
    this.#since = undefined;
    this.#count = 0;
  }
}
