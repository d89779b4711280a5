import { TransientMap } from '../transient-map.js';
import type { AeadId, TepId } from '../wire/index.js';
import {
  eraseResumable,
  followingResumable,
  type ResumableSession,
  type ResumptionName,
  resumptionHalves,
} from './resumption.js';
import { CACHE_LIFETIME, CACHE_LIMIT, CACHE_LIMIT_PER_PEER, LOOK_AHEAD, PROMISE_LIFETIME } from './tuning.js';

/** What somebody must know to agree to a resumption. */
export interface Announcement extends ResumptionName {
  /** 9 bytes. */
  readonly ownHalf: Uint8Array;
  readonly cipher: AeadId;
}

/** Recognises SYNs that name a session, each session once. */
export interface Announcer {
  announce(sessions: readonly Announcement[]): void;
  /** @returns false when a SYN has taken the session, or might have */
  withdraw(name: ResumptionName): boolean;
}

/** The sessions of one key exchange. */
export interface ResumptionChain {
  readonly peer: string;
  readonly tep: TepId;
  readonly cipher: AeadId;
}

/** A session that is out of the cache, for one connection. Erase `session.secret` when it is used. */
export interface ResumptionAttempt {
  readonly session: ResumableSession;
  readonly chain: ResumptionChain;
}

/** How much is kept, and for how long; each has a default. */
export interface ResumptionCacheOptions {
  /** Chains kept; a chain has a few secrets of 32 bytes. */
  readonly limit?: number;
  readonly limitPerPeer?: number;
  /** Milliseconds from the key exchange on. */
  readonly lifetime?: number;
}

/**
 * Sessions that can be resumed (RFC 8548 §3.5), in memory, without a clock: `now` is in milliseconds.
 *
 *     chain = cache.keep(peer, session.takeResumable(), now)     after a key exchange, whoever opened
 *     attempt = cache.open([peer], acceptable, now)              before a SYN; the secret is out of the cache
 *       confirm(attempt), or refuse(attempt)                     what the SYN-ACK said, if there was one
 *     attempt = cache.answer(name, now)                          after a SYN that was answered with v=1
 *     cache.forget(chain), cache.flush(), cache.expire(now)
 *
 * A chain is what one key exchange gives: ss[1], ss[2], … Every attempt takes the lowest index that is left (TC-26), and
 * what was taken never comes back (TC-27). A passive opener recognises a few indices ahead, as attempts of the peer may
 * have been lost.
 *
 * Who answers SYNs (a kernel) cannot wait for this cache, so it is told what to recognise through an {@link Announcer},
 * which then decides who takes a session: a SYN, or this cache.
 */
export class ResumptionCache {
  readonly #limit: number;
  readonly #limitPerPeer: number;
  readonly #lifetime: number;
  /** By age: the first one expires first. */
  readonly #chains = new Set<Chain>();
  /** The chains of a peer. */
  readonly #byPeer = new Map<string, Set<Chain>>();
  /** What SYNs may name, by {@link keyOf}. */
  readonly #announced = new TransientMap<string, Announced>();
  /** Of these a SYN has taken, or might have: its connection has not come yet. The oldest first. */
  readonly #promised = new Map<string, number>();
  #announcer: Announcer | undefined;
  /** Before this time nothing is too old. */
  #earliest = Number.POSITIVE_INFINITY;
  /** How many times a chain was made, or its use confirmed. */
  #uses = 0;

  constructor(options: ResumptionCacheOptions = {}) {
    this.#limit = options.limit ?? CACHE_LIMIT;
    this.#limitPerPeer = options.limitPerPeer ?? CACHE_LIMIT_PER_PEER;
    this.#lifetime = options.lifetime ?? CACHE_LIFETIME;
  }

  /** Chains. */
  get size(): number {
    return this.#chains.size;
  }

  /** From now on SYNs may name sessions of this cache. Once. */
  attach(announcer: Announcer): void {
    this.#announcer = announcer;
    for (const chain of this.#chains) this.#lookAhead(chain);
  }

  get attached(): boolean {
    return this.#announcer !== undefined;
  }

  /** `session` is the cache's from now on. @param peer under which {@link open} finds it */
  keep(peer: string, session: ResumableSession, now: number): ResumptionChain {
    this.#eraseOld(now);
    const chain = new Chain(peer, session, now + this.#lifetime);
    const siblings = this.#byPeer.get(peer) ?? new Set();
    this.#byPeer.set(peer, siblings);
    if (siblings.size >= this.#limitPerPeer) this.forget(longestUnused(siblings), now);
    if (this.#chains.size >= this.#limit) this.#forgetOldest(now);
    this.#byPeer.set(peer, siblings.add(chain)); // once more: it may have been emptied
    this.#chains.add(chain);
    this.#use(chain);
    this.#earliest = Math.min(this.#earliest, chain.expires);
    this.#lookAhead(chain);
    return chain;
  }

  /**
   * Takes a session for a connection to one of `peers`, in this order. Of several chains the one with the fewest open
   * attempts is used, as a peer looks only so far ahead; then the one that worked last, as the peer may have
   * forgotten the older ones.
   */
  open(
    peers: readonly string[],
    acceptable: { readonly teps: readonly TepId[]; readonly ciphers: readonly AeadId[] },
    now: number,
  ): ResumptionAttempt | undefined {
    this.#eraseOld(now);
    for (const peer of peers) {
      const siblings = this.#byPeer.get(peer);
      if (siblings === undefined) continue;
      const tried = new Set<Chain>();
      for (let chain = best(siblings, acceptable, tried); chain; chain = best(siblings, acceptable, tried)) {
        const session = this.#take(chain, now);
        if (session !== undefined) return { session, chain };
        tried.add(chain);
      }
    }
    return undefined;
  }

  /** Takes the session that a SYN has named, and that was agreed to. */
  answer(name: ResumptionName, now: number): ResumptionAttempt | undefined {
    this.#eraseOld(now);
    const key = keyOf(name);
    const found = this.#announced.get(key);
    if (found === undefined) return undefined;
    this.#announced.delete(key);
    this.#promised.delete(key);
    const { chain, session } = found;
    if (this.#chains.has(chain)) {
      const { sessions } = chain;
      // An announced session may be behind: others overtook it.
      for (let first = sessions[0]; first && first.index <= session.index; first = sessions[0]) {
        sessions.shift();
        if (sessions.length === 0) sessions.push(followingResumable(first));
        // TC-25: who has an earlier secret has the later ones.
        if (first !== session) this.#drop(first, now);
      }
      this.#advance(chain, session);
      this.#lookAhead(chain);
    }
    return { session, chain };
  }

  /** The peer agreed to resume. */
  confirm({ chain, session }: ResumptionAttempt): void {
    if (chain instanceof Chain && this.#chains.has(chain)) this.#advance(chain, session);
  }

  /** The peer knows nothing of it: it has forgotten the chain, unless it merely agreed to a later session first. */
  refuse({ chain, session }: ResumptionAttempt, now: number): void {
    if (chain instanceof Chain && session.index >= chain.confirmed) this.forget(chain, now);
  }

  /**
   * Erases what a connection used or produced (TC-29). A connection whose SYN has been answered already still gets what
   * it was promised.
   */
  forget(chain: ResumptionChain, now: number): void {
    if (!(chain instanceof Chain) || !this.#chains.delete(chain)) return;
    const siblings = this.#byPeer.get(chain.peer);
    siblings?.delete(chain);
    if (siblings?.size === 0) this.#byPeer.delete(chain.peer);
    for (const session of chain.sessions) this.#drop(session, now);
    chain.sessions = [];
  }

  /** Erases everything. */
  flush(now: number): void {
    for (const chain of [...this.#chains]) this.forget(chain, now);
  }

  /** Erases what is too old. @returns when to call again, or undefined */
  expire(now: number): number | undefined {
    this.#eraseOld(now);
    return this.#earliest === Number.POSITIVE_INFINITY ? undefined : this.#earliest;
  }

  #eraseOld(now: number): void {
    if (now < this.#earliest) return;
    for (const chain of this.#chains) {
      if (chain.expires > now) break;
      this.forget(chain, now);
    }
    for (const [key, until] of this.#promised) {
      if (until > now) break;
      this.#promised.delete(key);
      const announced = this.#announced.get(key);
      if (announced !== undefined) eraseResumable(announced.session);
      this.#announced.delete(key);
    }
    const [chain] = this.#chains;
    const [promise] = this.#promised.values();
    this.#earliest = Math.min(
      chain?.expires ?? Number.POSITIVE_INFINITY,
      promise ?? Number.POSITIVE_INFINITY,
    );
  }

  /** The lowest session of the chain that no SYN was faster to take; undefined when the peer would not know it. */
  #take(chain: Chain, now: number): ResumableSession | undefined {
    for (;;) {
      const [session] = chain.sessions;
      if (session === undefined || session.index >= chain.confirmed + LOOK_AHEAD) return undefined;
      chain.sessions.shift();
      if (chain.sessions.length === 0) chain.sessions.push(followingResumable(session));
      this.#lookAhead(chain);
      if (this.#withdraw(session, now)) return session;
    }
  }

  /** Both ends have got to this session. */
  #advance(chain: Chain, { index }: ResumableSession): void {
    chain.confirmed = Math.max(chain.confirmed, index + 1);
    this.#use(chain);
  }

  #use(chain: Chain): void {
    this.#uses += 1;
    chain.lastUse = this.#uses;
  }

  /** Derives and announces so much of the chain that `LOOK_AHEAD` sessions can be named. */
  #lookAhead(chain: Chain): void {
    if (this.#announcer === undefined) return;
    const { sessions } = chain;
    const news: Announcement[] = [];
    for (let last = sessions.at(-1); last && sessions.length < LOOK_AHEAD; last = sessions.at(-1))
      sessions.push(followingResumable(last));
    for (const session of sessions) {
      if (session.index <= chain.announced) continue;
      chain.announced = session.index;
      const { own, peer } = resumptionHalves(session);
      const announcement = { tep: session.tep, peerHalf: peer, ownHalf: own, cipher: session.cipher };
      this.#announced.set(keyOf(announcement), { chain, session });
      news.push(announcement);
    }
    if (news.length > 0) this.#announcer.announce(news);
  }

  #forgetOldest(now: number): void {
    const [first] = this.#chains;
    if (first !== undefined) this.forget(first, now);
  }

  #drop(session: ResumableSession, now: number): void {
    if (this.#withdraw(session, now)) eraseResumable(session);
  }

  /** @returns whether the session is ours alone now; otherwise it waits for the connection that has it */
  #withdraw(session: ResumableSession, now: number): boolean {
    if (this.#announcer === undefined) return true;
    const name = { tep: session.tep, peerHalf: resumptionHalves(session).peer };
    const key = keyOf(name);
    if (!this.#announced.has(key)) return true;
    if (this.#announcer.withdraw(name)) {
      this.#announced.delete(key);
      return true;
    }
    this.#promised.set(key, now + PROMISE_LIFETIME);
    this.#earliest = Math.min(this.#earliest, now + PROMISE_LIFETIME);
    return false;
  }
}

class Chain implements ResumptionChain {
  readonly tep: TepId;
  readonly cipher: AeadId;
  /** One after the other, from the lowest unused one on; never empty while in the cache. */
  sessions: ResumableSession[];
  /** The peer is known to have got this far: it recognises `LOOK_AHEAD` indices from here. */
  confirmed: number;
  /** Grows with every use that was confirmed, of whichever chain. */
  lastUse = 0;
  /** Up to this index sessions were announced. */
  announced = 0;

  constructor(
    readonly peer: string,
    session: ResumableSession,
    readonly expires: number,
  ) {
    this.tep = session.tep;
    this.cipher = session.cipher;
    this.sessions = [session];
    this.confirmed = session.index;
  }

  /** Attempts of which nothing was heard, lost or under way. */
  get openAttempts(): number {
    return (this.sessions[0]?.index ?? 0) - this.confirmed;
  }
}

/** Of one chain or more, that which makes room. */
function longestUnused(chains: ReadonlySet<Chain>): Chain {
  return [...chains].reduce((first, chain) => (chain.lastUse < first.lastUse ? chain : first));
}

/** See {@link ResumptionCache.open}. */
function best(
  chains: ReadonlySet<Chain>,
  { teps, ciphers }: { readonly teps: readonly TepId[]; readonly ciphers: readonly AeadId[] },
  tried: ReadonlySet<Chain>,
): Chain | undefined {
  let found: Chain | undefined;
  for (const chain of chains) {
    if (found !== undefined && !better(chain, found)) continue;
    if (tried.has(chain) || !teps.includes(chain.tep) || !ciphers.includes(chain.cipher)) continue;
    found = chain;
  }
  return found;
}

/** Fewer attempts that are open; then, used later. */
const better = (one: Chain, other: Chain): boolean =>
  one.openAttempts === other.openAttempts
    ? one.lastUse > other.lastUse
    : one.openAttempts < other.openAttempts;

interface Announced {
  readonly chain: Chain;
  readonly session: ResumableSession;
}

/** One character for each byte. A Buffer's latin1 says the same, at ten times the price. */
function keyOf({ tep, peerHalf }: ResumptionName): string {
  const at = (i: number): number => peerHalf[i] ?? 0;
  return String.fromCharCode(tep, at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8));
}
