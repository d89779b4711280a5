/** One target, a corpus, and what turns old inputs into new ones. */
import { createHash } from 'node:crypto';
import type { Random } from '../support/random.js';
import type { Coverage } from './coverage.js';
import { MAX_INPUT, minimise, mutate } from './mutate.js';
import type { Target } from './target.js';

export interface Finding {
  readonly input: Uint8Array;
  readonly error: unknown;
}

/** Time to make a finding smaller. */
const MINIMISE_MS = 5000;
const SMALL_BATCH = 8;
const LARGE_BATCH = 256;

export const nameOf = (input: Uint8Array): string =>
  createHash('sha256').update(input).digest('hex').slice(0, 12);

export class Fuzzer {
  readonly #target: Target;
  readonly #random: Random;
  readonly #coverage: Coverage | undefined;
  /** Hears of each input before it runs. */
  readonly #watch: (input: Uint8Array) => void;
  readonly #corpus: Uint8Array[] = [];
  readonly #words = new Set<string>();
  #batch = SMALL_BATCH;
  runs = 0;

  constructor(
    target: Target,
    random: Random,
    coverage: Coverage | undefined,
    watch: (input: Uint8Array) => void = () => {},
  ) {
    this.#target = target;
    this.#random = random;
    this.#coverage = coverage;
    this.#watch = watch;
  }

  get corpusSize(): number {
    return this.#corpus.length;
  }

  /** Different things that happened. */
  get words(): number {
    return this.#words.size;
  }

  /** Runs kept inputs, and tells which of them, one after the other, show something new. */
  load(inputs: readonly Uint8Array[]): Finding | Uint8Array[] {
    const useful: Uint8Array[] = [];
    for (const input of [...inputs].sort((a, b) => a.length - b.length)) {
      const known = this.#words.size;
      const finding = this.#try(input);
      if (finding !== undefined) return finding;
      const isNew = this.#coverage?.look(true) === true;
      if (!isNew && this.#words.size === known) continue;
      useful.push(input);
      this.#corpus.push(input);
    }
    return useful;
  }

  /** Runs a batch of new inputs. Gives those that are worth keeping, or a finding, made small. */
  step(): Finding | Uint8Array[] {
    const inputs = Array.from({ length: this.#batch }, () => this.#next());
    this.#coverage?.look(true); // what ran to make the inputs tells nothing about them
    const interesting = new Set<Uint8Array>();
    for (const input of inputs) {
      const known = this.#words.size;
      const finding = this.#try(input);
      if (finding !== undefined) return this.#small(finding);
      if (this.#words.size > known) interesting.add(input);
    }
    if (this.#coverage?.look(false) === true)
      for (const input of this.#whoIsNew(inputs)) interesting.add(input);
    this.#batch = interesting.size > 0 ? SMALL_BATCH : Math.min(LARGE_BATCH, 2 * this.#batch);
    this.#corpus.push(...interesting);
    return [...interesting];
  }

  #next(): Uint8Array {
    const random = this.#random;
    const pick = (): Uint8Array => this.#corpus[random.below(this.#corpus.length)] ?? new Uint8Array();
    if (this.#corpus.length === 0 || random.chance(30))
      return this.#target.generate(random).slice(0, MAX_INPUT);
    return mutate(random, pick(), pick());
  }

  /** The batch again, one by one. */
  #whoIsNew(inputs: readonly Uint8Array[]): Uint8Array[] {
    const found = inputs.filter((input) => {
      this.#try(input);
      return this.#coverage?.look(true) === true;
    });
    // Only all of them together make it run: it shall not be new again.
    for (const input of inputs) this.#try(input);
    this.#coverage?.look(true);
    return found;
  }

  #try(input: Uint8Array): Finding | undefined {
    this.runs += 1;
    this.#watch(input);
    try {
      this.#words.add(this.#target.run(input.slice()));
      return undefined;
    } catch (error) {
      return { input, error };
    }
  }

  #small({ input, error }: Finding): Finding {
    const fails = (candidate: Uint8Array): boolean => {
      const finding = this.#try(candidate);
      return finding !== undefined && placeOf(finding.error) === placeOf(error);
    };
    const smallest = minimise(input, fails, performance.now() + MINIMISE_MS);
    return { input: smallest, error: this.#try(smallest)?.error ?? error };
  }
}

/** The same failure: the same error at the same place. */
function placeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = error.stack?.split('\n').find((line) => line.trimStart().startsWith('at '));
  return `${error.name} ${place}`;
}
