/**
 * What the fuzzing thread and the one that watches it share: whether to stop, how many inputs have begun, and the
 * present one. A thread that hangs cannot tell; this can.
 */
import { MAX_INPUT } from './mutate.js';

const STOP = 0;
const COUNT = 1;
const LENGTH = 2;
const HEAD = 12;

export class Shared {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #input: Uint8Array;

  constructor(buffer = new SharedArrayBuffer(HEAD + MAX_INPUT)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer, 0, 3);
    this.#input = new Uint8Array(buffer, HEAD);
  }

  get stop(): boolean {
    return Atomics.load(this.#words, STOP) === 1;
  }
  requestStop(): void {
    Atomics.store(this.#words, STOP, 1);
  }

  begin(input: Uint8Array): void {
    this.#input.set(input.subarray(0, MAX_INPUT));
    Atomics.store(this.#words, LENGTH, Math.min(input.length, MAX_INPUT));
    Atomics.add(this.#words, COUNT, 1);
  }
  get count(): number {
    return Atomics.load(this.#words, COUNT);
  }
  get input(): Uint8Array {
    return this.#input.slice(0, Atomics.load(this.#words, LENGTH));
  }
}
