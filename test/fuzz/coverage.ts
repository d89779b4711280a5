/**
 * Which characters of the compiled sources have run, by V8's precise coverage: an input that makes new ones run is
 * worth keeping. A look costs milliseconds, so it is taken for many inputs at once.
 */
import { Session } from 'node:inspector';

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}
interface Script {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly Range[] }[];
}

export class Coverage {
  readonly #session = new Session();
  readonly #isOfInterest: (url: string) => boolean;
  /** 1 for each character that has run. */
  readonly #seen = new Map<string, Uint8Array>();

  constructor(isOfInterest: (url: string) => boolean) {
    this.#isOfInterest = isOfInterest;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Whether something ran, since the last look, that never ran before. `keep`: and shall not be new next time. */
  look(keep: boolean): boolean {
    let found = false;
    for (const script of this.#take()) {
      if (!this.#isOfInterest(script.url)) continue;
      const ran = charactersThatRan(script);
      const seen = this.#seen.get(script.url);
      if (seen === undefined) {
        found ||= ran.includes(1);
        if (keep) this.#seen.set(script.url, ran);
        continue;
      }
      const length = Math.min(seen.length, ran.length);
      for (let i = 0; i < length; i++) {
        if (ran[i] !== 1 || seen[i] === 1) continue;
        found = true;
        if (keep) seen[i] = 1;
        else break;
      }
    }
    return found;
  }

  stop(): void {
    this.#session.disconnect();
  }

  #take(): readonly Script[] {
    let scripts: readonly Script[] = [];
    // Answered before post returns.
    this.#session.post('Profiler.takePreciseCoverage', (error, { result }) => {
      if (error === null) scripts = result;
    });
    return scripts;
  }
}

/** Ranges are nested and come from the outside in: the innermost one that holds a character counts. */
function charactersThatRan({ functions }: Script): Uint8Array {
  let length = 0;
  for (const { ranges } of functions)
    for (const { endOffset } of ranges) length = Math.max(length, endOffset);
  const ran = new Uint8Array(length);
  for (const { ranges } of functions) {
    const [whole] = ranges;
    if (whole === undefined || whole.count === 0) continue;
    for (const { startOffset, endOffset, count } of ranges)
      ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  return ran;
}
