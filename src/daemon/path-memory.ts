/**
 * What the daemon remembers about destinations and networks, so that what cannot be encrypted costs a look-up and
 * not a question. Bounded in number and time; never consulted where encryption is required.
 *
 * The rule, which keeps an attacker from switching encryption off for longer than he is at work:
 *
 *   - After an answer without encryption a destination is left in peace for a while; its next connection asks again.
 *     The while doubles with each such answer in a row, up to a limit: {@link NEW}.
 *   - A destination that has encrypted before is asked again by every connection until it has failed several times in
 *     a row, and then sooner: {@link KNOWN}.
 *   - One encrypted connection, and all is forgotten but that it encrypts.
 *   - Networks: what happens at several addresses of a network makes asking cheaper at its other addresses (fewer SYNs
 *     with the option, less patience), and never switches it off: one host must not speak for its neighbours.
 */
import { networkOf } from './endpoint.js';

/** What became of a connection attempt. */
export type PathResult =
  /** The key exchange is complete: bytes came through in both directions. */
  | 'encrypted'
  /** The far host answered, without ENO or with nothing in common. */
  | 'plain'
  /** SYNs with the option stayed unanswered, one without was answered (ERR_TCPCRYPT_ENO_GIVEN_UP). */
  | 'drops-option'
  /** ENO succeeded, and then the key exchange did not: nothing, or something else, or a reset came. */
  | 'kills-ciphertext';

interface Patience {
  /** So many failures in a row go by without consequence. */
  readonly tolerated: number;
  /** Milliseconds until the next question, after the first failure that counts. */
  readonly first: number;
  readonly limit: number;
}

/** Tuned by us. */
export const NEW: Patience = { tolerated: 0, first: 60_000, limit: 600_000 };
export const KNOWN: Patience = { tolerated: 2, first: 5_000, limit: 60_000 };
/** Failures are forgotten so long after the last one, encryption so long after the last success (ms). */
export const FAILURE_LIFETIME = 3_600_000;
export const SUCCESS_LIFETIME = 7 * 86_400_000;
/** Encryption that follows encryption so soon is nothing new (ms). */
const SAME_NEWS = 1_000;
/** Destinations, and networks. */
export const MEMORY_LIMIT = 16_384;
/** A network is suspected when a path failed at so many of its addresses, and none encrypted since. */
export const SUSPICIOUS_ADDRESSES = 3;

interface Destination {
  readonly address: string;
  readonly port: number;
  readonly encryptedBefore: boolean;
  readonly last: PathResult;
  /** In a row. */
  readonly failures: number;
  /** When the last result came (ms). */
  readonly learned: number;
  /** Connections before that do not ask (ms). */
  readonly quietUntil: number;
  /** When it is forgotten (ms). */
  readonly until: number;
}

interface Network {
  readonly network: string;
  readonly last: PathFailure;
  /** At which that happened, at most {@link SUSPICIOUS_ADDRESSES} of them. */
  readonly addresses: ReadonlySet<string>;
  readonly until: number;
}

type PathFailure = 'drops-option' | 'kills-ciphertext';

/** For people and JSON; durations in seconds. */
export interface PathEntry {
  readonly kind: 'destination' | 'network';
  readonly address?: string;
  readonly port?: number;
  readonly network?: string;
  readonly last: PathResult;
  readonly encryptedBefore?: boolean;
  /** In a row; of a network, the number of its addresses. */
  readonly failures: number;
  /** Until a connection asks again; 0: the next one does. */
  readonly quietSeconds: number;
  readonly forgottenInSeconds: number;
}

export class PathMemory {
  /** By "address port", in the order of the last result: the first is the oldest. */
  readonly #destinations = new Map<string, Destination>();
  /** By network; in the same order. */
  readonly #networks = new Map<string, Network>();

  constructor(readonly limit: number = MEMORY_LIMIT) {}

  /** Destinations. */
  get size(): number {
    return this.#destinations.size;
  }

  /**
   * @param asked when the connection attempt began: of several at the same time, one failure counts
   * @param now in milliseconds, as for all others
   */
  learn(address: string, port: number, result: PathResult, asked: number, now: number): void {
    const key = keyOf(address, port);
    const earlier = lookUp(this.#destinations, key, now);
    const asBefore = result === 'encrypted' && earlier?.last === result && this.#networks.size === 0;
    if (asBefore && now - earlier.learned < SAME_NEWS) return;
    const encryptedBefore = result === 'encrypted' || (earlier?.encryptedBefore ?? false);
    const failed = result !== 'encrypted';
    if (failed && earlier !== undefined && earlier.failures > 0 && asked < earlier.learned) return;
    const failures = failed ? (earlier?.failures ?? 0) + 1 : 0;
    const destination: Destination = {
      address,
      port,
      encryptedBefore,
      last: result,
      failures,
      learned: now,
      quietUntil: now + quiet(failures, encryptedBefore ? KNOWN : NEW),
      until: failed ? Math.max(earlier?.until ?? 0, now + FAILURE_LIFETIME) : now + SUCCESS_LIFETIME,
    };
    put(this.#destinations, key, destination, this.limit);
    this.#learnNetwork(address, result, now);
  }

  /** Whether a connection to there is better made without asking for encryption. */
  isPlain(address: string, port: number, now: number): boolean {
    return this.plainUntil(address, port, now) > now;
  }

  /** Until when that is so (ms); what has passed otherwise. */
  plainUntil(address: string, port: number, now: number): number {
    return lookUp(this.#destinations, keyOf(address, port), now)?.quietUntil ?? 0;
  }

  /** What is to be expected of a destination that is asked: the result of its network's others. */
  suspicion(address: string, port: number, now: number): PathFailure | undefined {
    if (lookUp(this.#destinations, keyOf(address, port), now)?.encryptedBefore) return undefined;
    if (this.#networks.size === 0) return undefined;
    const network = lookUp(this.#networks, networkOf(address), now);
    return network !== undefined && network.addresses.size >= SUSPICIOUS_ADDRESSES ? network.last : undefined;
  }

  /** What there is to tell, the latest last. */
  list(now: number): PathEntry[] {
    const seconds = (until: number): number => Math.max(0, Math.ceil((until - now) / 1000));
    const current = <Entry extends { readonly until: number }>(entries: Map<string, Entry>): Entry[] =>
      [...entries.values()].filter(({ until }) => until > now);
    return [
      ...current(this.#networks).map(
        ({ network, last, addresses, until }): PathEntry => ({
          kind: 'network',
          network,
          last,
          failures: addresses.size,
          quietSeconds: 0,
          forgottenInSeconds: seconds(until),
        }),
      ),
      ...current(this.#destinations).map(
        ({ address, port, last, encryptedBefore, failures, quietUntil, until }): PathEntry => ({
          kind: 'destination',
          address,
          port,
          last,
          encryptedBefore,
          failures,
          quietSeconds: seconds(quietUntil),
          forgottenInSeconds: seconds(until),
        }),
      ),
    ];
  }

  /**
   * Forgets everything, or what concerns one address, its network included.
   * @returns how many entries that were
   */
  flush(address?: string): number {
    let count = 0;
    for (const [key, entry] of this.#destinations)
      if (address === undefined || entry.address === address) count += Number(this.#destinations.delete(key));
    for (const key of [...this.#networks.keys()])
      if (address === undefined || key === networkOf(address)) count += Number(this.#networks.delete(key));
    return count;
  }

  #learnNetwork(address: string, result: PathResult, now: number): void {
    // That the far host itself does not encrypt says nothing about the way to it.
    if (result === 'plain' || (result === 'encrypted' && this.#networks.size === 0)) return;
    const network = networkOf(address);
    if (result === 'encrypted') {
      this.#networks.delete(network);
      return;
    }
    const earlier = lookUp(this.#networks, network, now);
    const same = earlier?.last === result ? [...earlier.addresses] : [];
    const addresses = new Set([...new Set([...same, address])].slice(-SUSPICIOUS_ADDRESSES));
    put(
      this.#networks,
      network,
      { network, last: result, addresses, until: now + FAILURE_LIFETIME },
      this.limit,
    );
  }
}

const keyOf = (address: string, port: number): string => `${address} ${port}`;

/** Milliseconds without questions after so many failures in a row. */
function quiet(failures: number, { tolerated, first, limit }: Patience): number {
  const counted = failures - tolerated;
  return counted <= 0 ? 0 : Math.min(limit, first * 2 ** (counted - 1));
}

function lookUp<Entry extends { readonly until: number }>(
  entries: Map<string, Entry>,
  key: string,
  now: number,
): Entry | undefined {
  const known = entries.get(key);
  if (known === undefined || known.until > now) return known;
  entries.delete(key);
  return undefined;
}

/** As the latest; the oldest makes room. */
function put<Entry>(entries: Map<string, Entry>, key: string, entry: Entry, limit: number): void {
  entries.delete(key);
  entries.set(key, entry);
  if (entries.size <= limit) return;
  const oldest = entries.keys().next();
  if (!oldest.done) entries.delete(oldest.value);
}
