/**
 * How the benchmark's own programs use memory, unless `--as-is` says otherwise. For programs of node:net that receive much it
 * is chance, for as long as the process lives, which of two things happens; both have nothing to do with who encrypts:
 *
 * - V8 counts memory outside of its heap, that of received data, with the heap. Where its limit is near, and it is in small
 *   heaps, in those that were idle, and in those that hardly grow, each 32 MB of data bring a full collection of garbage.
 *   It is begun by incremental marking; without that, full collections are rare.
 * - glibc's malloc gives the memory of a piece back to the system, which makes it anew for the next one, page by page.
 */
interface Steadiness {
  /** Of node, for client, server and relay. */
  readonly flags: readonly string[];
  /** For all programs: malloc keeps what is freed, up to 256 MB. */
  readonly environment: { readonly [name: string]: string };
}

const STEADY: Steadiness = {
  flags: ['--no-incremental-marking'],
  environment: { MALLOC_TRIM_THRESHOLD_: `${2 ** 28}`, MALLOC_MMAP_THRESHOLD_: `${2 ** 25}` },
};

let chosen: Steadiness = STEADY;

/** Programs behave as they would anywhere: to be called before any is started. */
export function leaveAsIs(): void {
  chosen = { flags: [], environment: {} };
}

export const steadyFlags = (): readonly string[] => chosen.flags;
export const steadyEnvironment = (): Steadiness['environment'] => chosen.environment;
