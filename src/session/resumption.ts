import {
  type AeadId,
  findEnoOptions,
  isRoleB,
  isTepId,
  parseEnoContents,
  RESUME_HALF_LENGTH,
  type TepId,
} from '../wire/index.js';
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
  /** Kept by {@link resumptionHalves}, which derives them once. */
  halves?: ResumptionHalves;
}

/** resume[i] by owner, 9 bytes each. Both are public once they were sent. */
export interface ResumptionHalves {
  readonly own: Uint8Array;
  readonly peer: Uint8Array;
}

/** The two halves of the resumption identifier resume[i]. */
export function resumptionHalves(
  session: Pick<ResumableSession, 'secret' | 'originalRole' | 'halves'>,
): ResumptionHalves {
  session.halves ??= halvesOf(session);
  return session.halves;
}

function halvesOf({
  secret,
  originalRole,
}: Pick<ResumableSession, 'secret' | 'originalRole'>): ResumptionHalves {
  const stage = SessionSecret.restore(secret);
  const halves = byOwner(stage, originalRole);
  stage.erase();
  return halves;
}

function byOwner(stage: SessionSecret, originalRole: Role): ResumptionHalves {
  const { halfA, halfB } = stage.resumptionId();
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
  const next = followingResumable(session);
  eraseResumable(session);
  return next;
}

/** As {@link nextResumable}; `session` stays as it is. Its halves are derived as well, which it will hardly do without. */
export function followingResumable(session: ResumableSession): ResumableSession {
  const { tep, cipher, originalRole, index, secret } = session;
  const stage = SessionSecret.restore(secret);
  const next = stage.exportNext();
  session.halves ??= byOwner(stage, originalRole);
  stage.erase();
  return { tep, cipher, originalRole, index: index + 1, secret: next };
}

/** Erases what was kept; nothing resumes then. */
export const eraseResumable = (session: ResumableSession): void => {
  session.secret.fill(0);
};

/** A session by the name that the peer gives it: what a SYN with a resumption offer says. */
export interface ResumptionName {
  readonly tep: TepId;
  /** 9 bytes. */
  readonly peerHalf: Uint8Array;
}

/**
 * Which session host B agreed to resume, for host B itself: its kernel did. The transcript is A's ENO option, then
 * B's; undefined when B answered with v=0.
 */
export function resumptionAnswered(transcript: Uint8Array): ResumptionName | undefined {
  const [contentsA, contentsB] = findEnoOptions(transcript);
  if (contentsA === undefined || contentsB === undefined) return undefined;
  const b = parseEnoContents(contentsB);
  if (!b.wellFormed || !isRoleB(b)) return undefined;
  const answer = b.suboptions.at(-1);
  if (!answer?.v || !isTepId(answer.tep)) return undefined;
  const a = parseEnoContents(contentsA);
  if (!a.wellFormed) return undefined;
  const asked = a.suboptions.find(({ tep, v }) => v && tep === answer.tep);
  if (asked === undefined || asked.data.length < RESUME_HALF_LENGTH) return undefined;
  return { tep: answer.tep, peerHalf: asked.data.slice(0, RESUME_HALF_LENGTH) };
}
