/** Changes bytes blindly: what a grammar does not think of. */
import type { Random } from '../support/random.js';

export const MAX_INPUT = 8192;

/** Bounds of fields, and first bytes of the things that are parsed here. */
const TELLING = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x10, 0x1f, 0x20, 0x23, 0x45, 0x7f, 0x80, 0x9f, 0xa0, 0xa3, 0xfe, 0xff,
];

type Mutation = (random: Random, input: Uint8Array, mate: Uint8Array) => Uint8Array;

const at = (random: Random, input: Uint8Array): number => random.below(input.length + 1);
const replace = (input: Uint8Array, from: number, to: number, bytes: Uint8Array): Uint8Array =>
  new Uint8Array(Buffer.concat([input.subarray(0, from), bytes, input.subarray(to)]));
const set = (random: Random, input: Uint8Array, change: (byte: number) => number): Uint8Array => {
  const changed = input.slice();
  const index = random.below(input.length);
  if (index < changed.length) changed[index] = change(changed[index] ?? 0);
  return changed;
};

const MUTATIONS: readonly [Mutation, ...Mutation[]] = [
  (random, input) => set(random, input, (byte) => byte ^ (1 << random.below(8))),
  (random, input) => set(random, input, (byte) => byte + random.between(1, 4)),
  (random, input) => set(random, input, (byte) => byte - random.between(1, 4)),
  (random, input) => set(random, input, () => TELLING[random.below(TELLING.length)] ?? 0),
  (random, input) => set(random, input, () => random.below(256)),
  (random, input) => input.slice(0, at(random, input)),
  (random, input) => {
    const from = at(random, input);
    return replace(input, from, Math.min(input.length, from + random.between(1, 8)), new Uint8Array());
  },
  (random, input) => {
    const from = at(random, input);
    return replace(input, from, from, random.bytes(random.between(1, 8)));
  },
  (random, input) => {
    const from = at(random, input);
    const part = input.subarray(from, Math.min(input.length, from + random.between(1, 32)));
    const to = at(random, input);
    return replace(input, to, to, part);
  },
  (random, input, mate) => {
    const from = at(random, mate);
    const part = mate.subarray(from, Math.min(mate.length, from + random.between(1, 64)));
    const to = at(random, input);
    return replace(input, to, Math.min(input.length, to + random.below(part.length + 1)), part);
  },
  (random, input, mate) => replace(input, at(random, input), input.length, mate.subarray(at(random, mate))),
];

/** One to a few changes; `mate` is another input to take parts from. */
export function mutate(random: Random, input: Uint8Array, mate: Uint8Array): Uint8Array {
  let changed = input;
  for (let left = 1 + random.below(random.pick([1, 4, 12])); left > 0; left--)
    changed = random.pick(MUTATIONS)(random, changed, mate);
  return changed.slice(0, MAX_INPUT);
}

/**
 * A smaller input that still `fails`: parts are left out, then bytes made 0, as long as that helps and `deadline`
 * (performance.now()) has not come.
 */
export function minimise(
  input: Uint8Array,
  fails: (input: Uint8Array) => boolean,
  deadline: number,
): Uint8Array {
  let best = input;
  const late = (): boolean => performance.now() > deadline;
  const attempt = (candidate: Uint8Array): boolean => {
    if (!fails(candidate)) return false;
    best = candidate;
    return true;
  };
  for (let size = Math.max(1, best.length >> 1); !late(); size = Math.max(1, size >> 1)) {
    let smaller = false;
    for (let from = 0; from < best.length && !late(); ) {
      if (attempt(replace(best, from, Math.min(best.length, from + size), new Uint8Array()))) smaller = true;
      else from += size;
    }
    if (size === 1 && !smaller) break;
  }
  for (let index = 0; index < best.length && !late(); index++) {
    if (best[index] === 0) continue;
    const candidate = best.slice();
    candidate[index] = 0;
    attempt(candidate);
  }
  return best;
}
