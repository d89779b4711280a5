/** The thread that runs the inputs of one target. */
import { parentPort, workerData } from 'node:worker_threads';
import { SeededRandom } from '../support/random.js';
import { Coverage } from './coverage.js';
import { type Finding, Fuzzer } from './fuzzer.js';
import { Shared } from './shared.js';
import { targetNamed } from './targets/index.js';

export interface Order {
  readonly target: string;
  readonly seed: number;
  readonly milliseconds: number;
  readonly corpus: readonly Uint8Array[];
  readonly shared: SharedArrayBuffer;
}

export type Report =
  | { readonly kind: 'loaded'; readonly useful: readonly Uint8Array[] }
  | {
      readonly kind: 'progress' | 'done';
      readonly runs: number;
      readonly corpus: number;
      readonly words: number;
    }
  | { readonly kind: 'kept'; readonly input: Uint8Array }
  | { readonly kind: 'finding'; readonly input: Uint8Array; readonly error: string };

const PROGRESS_MS = 500;

const isOurs = (url: string): boolean => /\/dist\/(wire|session|crypto|kernel|lab)\/[^/]+\.js$/.test(url);

export function work(order: Order, report: (report: Report) => void): void {
  const target = targetNamed(order.target);
  if (target === undefined) throw new Error(`no such target: ${order.target}`);
  const shared = new Shared(order.shared);
  const coverage = new Coverage(isOurs);
  const fuzzer = new Fuzzer(target, new SeededRandom(order.seed), coverage, (input) => shared.begin(input));
  const state = () => ({ runs: fuzzer.runs, corpus: fuzzer.corpusSize, words: fuzzer.words });
  const found = ({ input, error }: Finding): void =>
    report({
      kind: 'finding',
      input,
      error: error instanceof Error ? (error.stack ?? error.message) : `${error}`,
    });

  const loaded = fuzzer.load(order.corpus);
  if (!Array.isArray(loaded)) {
    found(loaded);
    return;
  }
  report({ kind: 'loaded', useful: loaded });
  const end = performance.now() + order.milliseconds;
  let next = 0;
  while (!shared.stop && performance.now() < end) {
    const result = fuzzer.step();
    if (!Array.isArray(result)) {
      found(result);
      return;
    }
    for (const input of result) report({ kind: 'kept', input });
    if (performance.now() < next) continue;
    next = performance.now() + PROGRESS_MS;
    report({ kind: 'progress', ...state() });
  }
  coverage.stop();
  report({ kind: 'done', ...state() });
}

if (parentPort !== null) {
  const port = parentPort;
  work(workerData as Order, (report) => port.postMessage(report));
}
