/** Virtual time: what is due happens in the order of its time, at once, until nothing is due any more. */
import assert from 'node:assert/strict';

export interface Timer {
  cancel(): void;
}

interface Entry {
  readonly at: number;
  /** Keeps the order of what is due at the same time. */
  readonly number: number;
  readonly run: () => void;
  cancelled: boolean;
}

export class Clock {
  #now = 0;
  #count = 0;
  /** A binary heap: the earliest entry is first. */
  readonly #heap: Entry[] = [];

  /** Milliseconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  after(milliseconds: number, run: () => void): Timer {
    const entry = { at: this.#now + milliseconds, number: this.#count++, run, cancelled: false };
    this.#push(entry);
    return {
      cancel: () => {
        entry.cancelled = true;
      },
    };
  }

  /** Runs until nothing is due. More than `maxEvents` is a livelock, and an error. */
  run(maxEvents: number): void {
    for (let events = 0; ; events++) {
      const entry = this.#pop();
      if (entry === undefined) return;
      if (entry.cancelled) continue;
      assert.ok(events < maxEvents, `livelock: more than ${maxEvents} events, at ${entry.at} ms`);
      this.#now = entry.at;
      entry.run();
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || before(above, entry)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || first === last) return first;
    let at = 0;
    for (;;) {
      const left = heap[2 * at + 1];
      const right = heap[2 * at + 2];
      const child = right !== undefined && left !== undefined && before(right, left) ? right : left;
      if (child === undefined || before(last, child)) break;
      heap[at] = child;
      at = 2 * at + (child === left ? 1 : 2);
    }
    heap[at] = last;
    return first;
  }
}

const before = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.number < b.number);
