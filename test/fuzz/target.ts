import type { Random } from '../support/random.js';

/** One thing that takes bytes from outside. */
export interface Target {
  readonly name: string;
  /** For people: what the bytes are. */
  readonly about: string;
  /** Bytes as somebody might send them: mostly right, so that they get far. */
  generate(random: Random): Uint8Array;
  /**
   * Runs it. Returns a word for what happened: an input with a new word is worth keeping.
   *
   * @throws whatever it throws is a finding
   */
  run(input: Uint8Array): string;
}
