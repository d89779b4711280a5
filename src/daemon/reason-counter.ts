/** How often something happened, by reason: an error code. */

/** Codes are words of ours or of the operating system; whatever else comes is one sort. */
const REASONS_LIMIT = 128;
const OTHER = 'other';

export class ReasonCounter {
  readonly #counts = new Map<string, number>();

  count(reason: string | undefined): void {
    const known = reason !== undefined && (this.#counts.has(reason) || this.#counts.size < REASONS_LIMIT);
    const key = known ? reason : OTHER;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }
}
