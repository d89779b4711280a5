/**
 * A Map for what comes and goes all the time, such as one entry for each connection.
 *
 * Every so many insertions V8 copies the entries of a Map, or Set, into a new table. The former table keeps what was in it,
 * and a pointer to its follower. Once one of them has got into the old space, by a full collection of garbage, all later ones
 * stay alive until the next full collection, and with them whatever they ever held: connections that are long over are then
 * copied by each scavenge. In these tables are cells, and those of deleted entries are empty.
 */
export class TransientMap<K, V extends object> {
  readonly #cells = new Map<K, Cell<V>>();

  get size(): number {
    return this.#cells.size;
  }

  has(key: K): boolean {
    return this.#cells.has(key);
  }

  get(key: K): V | undefined {
    return this.#cells.get(key)?.value;
  }

  /** In the place of what is there under `key`; a new one comes last. */
  set(key: K, value: V): void {
    const cell = this.#cells.get(key);
    if (cell === undefined) this.#cells.set(key, new Cell(value));
    else cell.value = value;
  }

  /** @returns whether it was there */
  delete(key: K): boolean {
    const cell = this.#cells.get(key);
    if (cell === undefined) return false;
    cell.value = undefined;
    return this.#cells.delete(key);
  }

  /** The oldest first; entries may be deleted meanwhile. */
  *values(): Generator<V, undefined> {
    for (const { value } of this.#cells.values()) if (value !== undefined) yield value;
  }

  /** The oldest. */
  get first(): V | undefined {
    return this.#cells.values().next().value?.value;
  }
}

class Cell<V> {
  value: V | undefined;
  constructor(value: V) {
    this.value = value;
  }
}
