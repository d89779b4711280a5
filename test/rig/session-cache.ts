/** What a host keeps to resume the session with its one peer (RFC 8548 §3.5): the least that keeps the rules. */
import { nextResumable, type ResumableSession, resumptionHalves } from '#src/session/index.js';

/** Readings 7: attempts that got lost on the way leave the active opener ahead of us. */
const LOOK_AHEAD = 8;

export class SessionCache {
  #kept: ResumableSession | undefined;

  get isEmpty(): boolean {
    return this.#kept === undefined;
  }

  /** The secret of a later session replaces that of an earlier one. */
  put(session: ResumableSession): void {
    this.#kept?.secret.fill(0);
    this.#kept = session;
  }

  /** For a SYN. Whoever takes it gives back the next one of the chain, whatever becomes of the attempt (TC-26). */
  take(): ResumableSession | undefined {
    const taken = this.#kept;
    this.#kept = undefined;
    return taken;
  }

  /** For a SYN that arrived: the session of that TEP whose identifier begins with the peer's half. */
  find(tep: number, peerHalf: Uint8Array): ResumableSession | undefined {
    const kept = this.#kept;
    if (kept === undefined || kept.tep !== tep) return undefined; // TC-18
    let candidate: ResumableSession = { ...kept, secret: kept.secret.slice() };
    for (let i = 0; i < LOOK_AHEAD; i++) {
      if (Buffer.compare(resumptionHalves(candidate).peer, peerHalf) === 0) {
        kept.secret.fill(0);
        this.#kept = undefined; // TC-27
        return candidate;
      }
      candidate = nextResumable(candidate);
    }
    return undefined;
  }
}
