import type { AeadId, TepId } from '../wire/index.js';
import { SessionSecret } from './key-schedule.js';
import type { ResumptionProposal, Role } from './negotiation.js';

/**
 * What a cache keeps to resume a session (RFC 8548 §3.5). One secret secures one connection at most (TC-27): take it
 * out of the cache before it is offered or accepted. Never to persistent storage (TC-25).
 */
export interface ResumableSession {
  readonly tep: TepId;
  /** The AEAD algorithm is not negotiated again. */
  readonly cipher: AeadId;
  /** This end's role in the first session of the chain, which rules halves, nonces and keys ever after (TC-17, TC-28). */
  readonly originalRole: Role;
  /** i, at least 1. */
  readonly index: number;
  /** ss[i], 32 bytes. */
  readonly secret: Uint8Array;
}

/** The two halves of the resumption identifier resume[i], by owner. Both are public once they were sent. */
export function resumptionHalves({
  secret,
  originalRole,
}: Pick<ResumableSession, 'secret' | 'originalRole'>): {
  readonly own: Uint8Array;
  readonly peer: Uint8Array;
} {
  const stage = SessionSecret.restore(secret);
  const { halfA, halfB } = stage.resumptionId();
  stage.erase();
  return originalRole === 'A' ? { own: halfA, peer: halfB } : { own: halfB, peer: halfA };
}

/** What negotiation must know to recognise the peer's half. */
export function resumptionProposal(session: ResumableSession): ResumptionProposal {
  return { tep: session.tep, peerHalf: resumptionHalves(session).peer };
}

/**
 * The next session of the chain, for an attempt that failed: "used" means attempted (TC-26). Erases `session.secret`.
 */
export function nextResumable(session: ResumableSession): ResumableSession {
  const stage = SessionSecret.restore(session.secret);
  const next = stage.next();
  const secret = next.export();
  stage.erase();
  next.erase();
  session.secret.fill(0);
  return { ...session, index: session.index + 1, secret };
}
