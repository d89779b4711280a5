/**
 * New keys by the clock (RFC 8548 §3.8), and the keep-alive that is made of them (§3.9): the peer must answer a new key
 * generation with one of its own, which nobody in between can do for it.
 */
import type { RekeyOptions } from './options.js';

/** What the clock looks at, and does. */
export interface RekeyClockOwner {
  /** Anything that counts what was sent or received. */
  readonly activity: number;
  /** Counts what was received and authentic. */
  readonly heard: number;
  /** No answer can be expected: nobody reads here, or what was written before still waits. */
  readonly stuck: boolean;
  /** Nothing can be asked, or answered, any more: a direction has ended. */
  readonly ending: boolean;
  rekey(): void;
  /** The peer did not answer. */
  silent(): void;
}

export class RekeyClock {
  readonly #owner: RekeyClockOwner;
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(owner: RekeyClockOwner, { afterTime, keepAlive }: RekeyOptions) {
    this.#owner = owner;
    if (afterTime !== undefined) this.#limitAge(afterTime);
    if (keepAlive !== undefined) this.#keepAlive(keepAlive);
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  /** A key that nothing was encrypted with does not grow old. */
  #limitAge(milliseconds: number): void {
    const owner = this.#owner;
    let activity = -1;
    const tick = (): void => {
      if (owner.activity === activity) return;
      owner.rekey();
      activity = owner.activity;
    };
    this.#timers.push(setInterval(tick, milliseconds).unref());
  }

  #keepAlive(milliseconds: number): void {
    const owner = this.#owner;
    let { heard } = owner;
    let asked = false;
    const tick = (): void => {
      if (owner.ending || owner.stuck || owner.heard !== heard) {
        heard = owner.heard;
        asked = false;
      } else if (asked) {
        this.stop();
        owner.silent();
      } else {
        asked = true;
        owner.rekey();
      }
    };
    this.#timers.push(setInterval(tick, milliseconds).unref());
  }
}
