/**
 * HELLO: what an end offers and demands. Both ends send theirs at once, and both compute from the two what will
 * be run, so that nobody has to announce a choice.
 *
 *     magic "tcAU" | version u8 | role u8 ('A' or 'B') | flags u8
 *     session ID: length u8, bytes
 *     count u8, and so many times:  mechanism u16 | capabilities u8 | hint: length u8, bytes
 *     (later versions may append; what follows is ignored, but covered by the transcript)
 */
import { TcpcryptError } from '../errors.js';
import { malformed, Reader, u8, u16 } from './bytes.js';
import {
  CAN_PROVE,
  CAN_VERIFY,
  FLAG_DEMAND,
  MAGIC,
  MECHANISM_LIMIT,
  MECHANISMS,
  SESSION_ID_LIMIT,
  VERSION,
} from './constants.js';

/** Of the connection: A sent Init1 (RFC 8547 §4.3). */
export type Role = 'A' | 'B';

export interface HelloEntry {
  readonly mechanism: number;
  readonly canProve: boolean;
  readonly canVerify: boolean;
  /** What the peer needs to know beforehand, such as a user's name. */
  readonly hint: Uint8Array;
}

export interface Hello {
  readonly role: Role;
  readonly sessionId: Uint8Array;
  /** Whether the sender goes on only with a peer that has proved who it is. */
  readonly demand: boolean;
  /** Most preferred first. */
  readonly entries: readonly HelloEntry[];
}

export function encodeHello({ role, sessionId, demand, entries }: Hello): Buffer {
  const parts = [MAGIC, u8(VERSION), Buffer.from(role), u8(demand ? FLAG_DEMAND : 0)];
  parts.push(u8(sessionId.length), Buffer.from(sessionId), u8(entries.length));
  for (const { mechanism, canProve, canVerify, hint } of entries) {
    const capabilities = (canProve ? CAN_PROVE : 0) | (canVerify ? CAN_VERIFY : 0);
    parts.push(u16(mechanism), u8(capabilities), u8(hint.length), Buffer.from(hint));
  }
  return Buffer.concat(parts);
}

/** @throws ERR_TCPCRYPT_AUTH_MESSAGE, ERR_TCPCRYPT_AUTH_VERSION */
export function parseHello(bytes: Uint8Array): Hello {
  const reader = new Reader(bytes, 'HELLO');
  if (!reader.bytes(MAGIC.length).equals(MAGIC)) throw malformed('no HELLO');
  // A later version says what it can; we answer with ours, and it is the smaller of the two that is spoken.
  if (reader.u8() < VERSION) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_VERSION');
  const role = reader.bytes(1).toString('latin1');
  if (role !== 'A' && role !== 'B') throw malformed('role');
  const flags = reader.u8();
  const idLength = reader.u8();
  if (idLength > SESSION_ID_LIMIT) throw malformed('session ID');
  const sessionId = reader.bytes(idLength);
  const count = reader.u8();
  if (count > MECHANISM_LIMIT) throw malformed(`${count} mechanisms`);
  const entries: HelloEntry[] = [];
  for (let i = 0; i < count; i++) {
    const mechanism = reader.u16();
    const capabilities = reader.u8();
    const hint = reader.bytes(reader.u8());
    if (entries.some((entry) => entry.mechanism === mechanism)) throw malformed('a mechanism twice');
    entries.push({
      mechanism,
      canProve: (capabilities & CAN_PROVE) !== 0,
      canVerify: (capabilities & CAN_VERIFY) !== 0,
      hint,
    });
  }
  return { role, sessionId, demand: (flags & FLAG_DEMAND) !== 0, entries };
}

/** One run of a mechanism: who proves in it. */
export interface Run {
  readonly mechanism: number;
  readonly provers: readonly Role[];
}

/**
 * What will be run, in order. Whoever demands a proof has the choice among what the other can prove. B proves
 * first: A, who called, tells nobody who it is before it knows whom it called.
 * @throws ERR_TCPCRYPT_AUTH_NO_MECHANISM
 */
export function choose(a: Hello, b: Hello): Run[] {
  const runs: Run[] = [];
  for (const [prover, verifier] of [[b, a] as const, [a, b] as const]) {
    if (!verifier.demand) continue;
    const chosen = verifier.entries.find(
      ({ mechanism, canVerify }) =>
        canVerify && prover.entries.some((entry) => entry.mechanism === mechanism && entry.canProve),
    );
    if (chosen === undefined) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_NO_MECHANISM');
    const mutual = Object.values(MECHANISMS).some(({ id, mutual }) => id === chosen.mechanism && mutual);
    const provers: Role[] = mutual ? ['A', 'B'] : [prover.role];
    if (mutual && runs.some(({ mechanism }) => mechanism === chosen.mechanism)) continue;
    runs.push({ mechanism: chosen.mechanism, provers });
  }
  return runs;
}
