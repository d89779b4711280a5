/** What the daemon makes of how a connection fared: for the memory of paths, for the kernel, and for the next attempt. */
import { TcpcryptError } from '../errors.js';
import type { KnownPlain } from '../kernel/known-plain.js';
import type { Encryption } from '../socket/options.js';
import { type Endpoint, endpointText } from './endpoint.js';
import type { PathMemory, PathResult } from './path-memory.js';
import type { Ending, Relay } from './relay.js';

/**
 * Milliseconds. A key exchange that takes longer is a failed one if the application loses its patience; where that
 * is to be expected, as other hosts of the network failed so, ours ends then as well.
 */
const SLOW_KEY_EXCHANGE = 5_000;

export class Lessons {
  readonly #memory: PathMemory;
  readonly #knownPlain: KnownPlain;
  readonly #isAsked: (destination: string) => boolean;

  /**
   * @param knownPlain what of the memory the kernel knows
   * @param isAsked    whether an application's SYN to there ("address:port") is held: its retransmission must come to us as
   *                   well, and not go out beside ours
   */
  constructor(memory: PathMemory, knownPlain: KnownPlain, isAsked: (destination: string) => boolean) {
    this.#memory = memory;
    this.#knownPlain = knownPlain;
    this.#isAsked = isAsked;
  }

  /** @param asked when the far host was asked (ms) */
  learn(destination: Endpoint, result: PathResult, asked: number): void {
    const { address, port } = destination;
    const now = Date.now();
    this.#memory.learn(address, port, result, asked, now);
    if (result === 'encrypted') this.#knownPlain.remove(address, port, now);
    else this.leaveInPeace(destination);
  }

  /** Tells the kernel for how long it need not ask. */
  leaveInPeace(destination: Endpoint): void {
    if (this.#isAsked(endpointText(destination))) return;
    const { address, port } = destination;
    const now = Date.now();
    const until = this.#memory.plainUntil(address, port, now);
    if (until > now) this.#knownPlain.add(address, port, until, now);
  }
}

/** Asks in a cheaper way where experience says that it will be in vain. */
export function expecting(suspicion: PathResult | undefined, encryption: Encryption): Encryption {
  if (suspicion === 'drops-option') return { ...encryption, synTries: Math.min(1, encryption.synTries) };
  if (suspicion === 'kills-ciphertext')
    return { ...encryption, handshakeTimeout: Math.min(SLOW_KEY_EXCHANGE, encryption.handshakeTimeout) };
  return encryption;
}

/**
 * The far host agreed to encrypt, and then there was no key exchange: the path, or whoever answers there, lets the
 * option pass but not what follows.
 */
export function isKilled({ channel, wasReady }: Relay, ending: Ending, milliseconds: number): boolean {
  if (!channel.encrypted || wasReady) return false;
  switch (ending.how) {
    case 'end':
      return false;
    case 'reset':
      return ending.by === 'far' || milliseconds >= SLOW_KEY_EXCHANGE;
    case 'error':
      return ending.error instanceof TcpcryptError
        ? ['peer', 'network', 'incompatible'].includes(ending.error.fault)
        : isTimeout(ending.error);
  }
}

export const isTimeout = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT';
