/** Targets with a known fault each: what is tested with them is the fuzzer. They run only when they are named. */
import type { Target } from '../target.js';

const isMagic = (input: Uint8Array): boolean => input.includes(0x42) && input.length > 5;

const throws: Target = {
  name: 'canary-throws',
  about: 'throws for more than 5 bytes with 0x42 among them',
  generate: (random) => random.bytes(random.below(100)),
  run(input) {
    if (isMagic(input)) throw new Error('the canary sings');
    return '';
  },
};

const hangs: Target = {
  ...throws,
  name: 'canary-hangs',
  about: 'never returns for such bytes',
  run(input) {
    for (; isMagic(input); );
    return '';
  },
};

export const CANARIES: readonly Target[] = [throws, hangs];
