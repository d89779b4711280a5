/**
 * Choices that can be repeated: from a seed, or from bytes. A test that takes all its choices from here is the same
 * test again for the same seed, and for fewer or other bytes a smaller or another one, which is what a fuzzer needs.
 */
export abstract class Random {
  /** 32 random bits. */
  abstract next(): number;

  /** 0 to n - 1. */
  below(n: number): number {
    return n <= 1 ? 0 : this.next() % n;
  }

  /** True `percent` times of a hundred. */
  chance(percent: number): boolean {
    return percent > 0 && this.below(100) < percent;
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  pick<T>(items: readonly [T, ...T[]]): T {
    return items[this.below(items.length)] ?? items[0];
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** mulberry32: small, fast, good enough for tests. */
export class SeededRandom extends Random {
  #state: number;

  constructor(seed: number) {
    super();
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
}

/** Takes choices off the front of some bytes; behind their end every choice is 0: the first, the least, no. */
export class RandomOfBytes extends Random {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    super();
    this.#bytes = bytes;
  }

  get left(): number {
    return Math.max(0, this.#bytes.length - this.#at);
  }

  next(): number {
    return (this.#byte() | (this.#byte() << 8) | (this.#byte() << 16) | (this.#byte() << 24)) >>> 0;
  }

  /** As many bytes as the choice needs, so that changing one byte changes one choice. */
  override below(n: number): number {
    if (n <= 1) return 0;
    if (n <= 0x100) return this.#byte() % n;
    if (n <= 0x1_0000) return (this.#byte() | (this.#byte() << 8)) % n;
    return this.next() % n;
  }

  #byte(): number {
    return this.#bytes[this.#at++] ?? 0;
  }
}
