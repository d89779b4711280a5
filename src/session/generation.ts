import type { AeadFactory, AeadKey } from '../crypto/index.js';
import type { AeadId } from '../wire/index.js';
import type { Direction, MasterKey, TrafficKey } from './key-schedule.js';

/** What both halves of a connection need to derive their keys. */
export interface Keys {
  /** mk[0]; erased by whoever takes it. */
  readonly masterKey: MasterKey;
  readonly direction: Direction;
  readonly cipher: AeadId;
  readonly aead: AeadFactory;
}

/**
 * One key generation j of one direction (RFC 8548 §3.8): mk[j] and the traffic key made of it. The two directions of
 * a connection move on independently, so each has its own.
 */
export class Generation {
  readonly number: number;
  readonly aead: AeadKey;
  /** Erased with the traffic key, of which it is a view. */
  readonly nr: Uint8Array;
  readonly #keys: Keys;
  readonly #trafficKey: TrafficKey;

  private constructor(number: number, keys: Keys) {
    this.number = number;
    this.#keys = keys;
    this.#trafficKey = keys.masterKey.trafficKey(keys.direction, keys.cipher);
    this.aead = this.#trafficKey.aead(keys.aead);
    this.nr = this.#trafficKey.nr;
  }

  static first(keys: Keys): Generation {
    return new Generation(0, keys);
  }

  /** Generation j + 1. This one stays usable until it is erased. */
  next(): Generation {
    return new Generation(this.number + 1, { ...this.#keys, masterKey: this.#keys.masterKey.next() });
  }

  /** TC-43: old keys are deleted. */
  erase(): void {
    this.aead.erase();
    this.#trafficKey.erase();
    this.#keys.masterKey.erase();
  }
}
