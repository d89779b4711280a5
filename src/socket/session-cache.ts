/** The cache of src/session with a clock, randomness and this machine's kernel. */
import { TcpcryptError } from '../errors.js';
import { ResumptionGroup } from '../kernel/resumption-group.js';
import {
  type AeadId,
  type Announcement,
  eraseResumable,
  publicRandomBytes,
  type ResumableSession,
  type ResumptionAttempt,
  ResumptionCache,
  type ResumptionCacheOptions,
  type ResumptionChain,
  resumptionAnswered,
  type TepId,
} from '../session/index.js';

/** Options of {@link SessionCache}. */
export interface SessionCacheOptions extends ResumptionCacheOptions {
  /**
   * Bytes of the nonce that this end adds to a resumption, 0 to 8; default 8. Fewer are sent where a segment has no room.
   * A secret is never used twice, so any length is safe unless the machine's memory is cloned.
   */
  readonly nonceLength?: number;
}

/**
 * Sessions that later connections may resume (RFC 8548 §3.5), in memory only: for the options `resumption` of connections and
 * servers that shall share them, and no others.
 */
export class SessionCache {
  readonly #cache: ResumptionCache;
  readonly #nonceLength: number;
  #group: ResumptionGroup | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Of this machine, see {@link ResumptionGroup.generation}. */
  #generation: number | undefined;
  /** Announced to the kernel. */
  #attached = false;

  /** @throws ERR_TCPCRYPT_ARGUMENT */
  constructor(options: SessionCacheOptions = {}) {
    const { nonceLength = 8, limit, limitPerPeer, lifetime } = options;
    const positive = (value = 1): boolean => Number.isSafeInteger(value) && value > 0;
    if (!(Number.isInteger(nonceLength) && nonceLength >= 0 && nonceLength <= 8))
      invalid('nonceLength: 0 to 8');
    if (![limit, limitPerPeer, lifetime].every(positive)) invalid('limits: positive integers');
    this.#nonceLength = nonceLength;
    this.#cache = new ResumptionCache(options);
  }

  /** How many peers' key exchanges can be resumed. */
  get size(): number {
    return this.#cache.size;
  }

  /** Erases everything; connections that exist go on. */
  flush(): void {
    this.#cache.flush(Date.now());
    this.#schedule();
  }

  /**
   * What a listener must be given that resumes sessions with these AEADs; `struct tcp_eno_resume_group`.
   * @internal
   * @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PLATFORM
   */
  membership(ciphers: readonly AeadId[]): Uint8Array {
    this.#group ??= ResumptionGroup.open();
    const group = this.#group;
    if (!this.#attached) {
      this.#attached = true;
      this.#cache.attach({
        announce: (sessions) => group.add(sessions.map((session) => this.#entry(session))),
        withdraw: ({ tep, peerHalf }) => group.take(tep, peerHalf),
      });
    }
    return group.membership(ciphers.reduce((classes, cipher) => classes | classOf(cipher), 0));
  }

  /** @internal A session for a connection to a peer, and the nonce. */
  open(
    peers: readonly string[],
    acceptable: { readonly teps: readonly TepId[]; readonly ciphers: readonly AeadId[] },
  ): { readonly attempt: ResumptionAttempt; readonly nonce: Uint8Array } | undefined {
    if (this.size === 0 || !this.#permitted()) return undefined;
    const attempt = this.#cache.open(peers, acceptable, Date.now());
    return attempt && { attempt, nonce: nonceOfNow(this.#nonceLength) };
  }

  /**
   * @internal The session that our kernel agreed to resume; undefined when it agreed to a fresh exchange.
   * @throws ERR_TCPCRYPT_RESUMPTION_LOST
   */
  answered(transcript: Uint8Array): ResumptionAttempt | undefined {
    const name = resumptionAnswered(transcript);
    if (name === undefined) return undefined;
    const attempt = this.#cache.answer(name, Date.now());
    if (attempt === undefined) throw new TcpcryptError('ERR_TCPCRYPT_RESUMPTION_LOST');
    return attempt;
  }

  /** @internal What became of an attempt. Erases its secret. */
  settle(attempt: ResumptionAttempt, result: 'resumed' | 'refused' | 'lost'): void {
    if (result === 'resumed') this.#cache.confirm(attempt);
    if (result === 'refused') this.#cache.refuse(attempt, Date.now());
    eraseResumable(attempt.session);
  }

  /** @internal Undefined where the administrator refuses resumption: nothing is kept, and the secret erased. */
  keep(peer: string, session: ResumableSession): ResumptionChain | undefined {
    if (!this.#permitted()) {
      eraseResumable(session);
      return undefined;
    }
    const chain = this.#cache.keep(peer, session, Date.now());
    this.#schedule();
    return chain;
  }

  /** @internal */
  forget(chain: ResumptionChain): void {
    this.#cache.forget(chain, Date.now());
  }

  /** Forgets everything when the administrator says so; false when nothing may be resumed. */
  #permitted(): boolean {
    try {
      this.#group ??= ResumptionGroup.open();
    } catch {
      return true; // no kernel part: nothing is negotiated
    }
    const { generation } = this.#group;
    if (generation !== this.#generation && this.size > 0) this.flush();
    this.#generation = generation;
    return generation !== undefined;
  }

  #entry({ tep, peerHalf, ownHalf, cipher }: Announcement) {
    return { tep, peerHalf, ownHalf, classes: classOf(cipher), nonce: publicRandomBytes(this.#nonceLength) };
  }

  /** Secrets are erased in time also where nothing happens any more. */
  #schedule(): void {
    if (this.#timer !== undefined) return;
    const now = Date.now();
    const next = this.#cache.expire(now);
    if (next === undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#schedule();
      },
      Math.min(Math.max(next - now, 1000), 2 ** 31 - 1),
    ).unref();
  }
}

/** What all connections of this process use that were not told otherwise. */
export const defaultSessionCache = new SessionCache();

/** Under which names a peer's sessions are kept. Those that it opened are good for all of its ports. */
export const peerOfDestination = (address: string, port: number): string => `${canonical(address)} ${port}`;
export const peerOfAddress = (address: string): string => canonical(address);

const canonical = (address: string): string =>
  address.includes(':') ? address.replace(/^::ffff:(?=\d+\.)/i, '').toLowerCase() : address;

/** Random, and mixed with the time: machines whose memory is a copy of another's have the same random bytes ahead. */
function nonceOfNow(length: number): Uint8Array {
  const nonce = publicRandomBytes(length);
  const [seconds, nanoseconds] = process.hrtime();
  const time = nanoseconds ^ seconds ^ Date.now();
  for (let i = 0; i < length && i < 4; i++) nonce[i] = (nonce[i] ?? 0) ^ (time >>> (8 * i));
  return nonce;
}

/** The kernel compares bits. */
const CLASSES: { readonly [cipher in AeadId]: number } = { 1: 1, 2: 2, 16: 4 };
const classOf = (cipher: AeadId): number => CLASSES[cipher];

function invalid(detail: string): never {
  throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail });
}
