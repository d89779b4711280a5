/** What getsockopt() tells about a connection, for people and for JSON. */
import type { CarriedFacts } from './carried.js';
import { enoStateBytes, TCP_ENO, TCP_ENO_SESSID_MAX } from './eno-socket.js';
import { IPPROTO_TCP, tryGetsockopt } from './libc.js';

export interface ConnectionFacts {
  readonly state: 'encrypted' | 'plain' | 'negotiating';
  /** Hexadecimal. */
  readonly sessionId?: string;
  readonly role?: 'A' | 'B';
  /** TEP byte, "0x23"; from 0xa0 on: resumed. */
  readonly tep?: string;
  /** AEAD identifier, "0x0001". */
  readonly cipher?: string;
  readonly peerAware?: boolean;
  readonly transcript?: string;
}

/** Offsets in `struct tcp_eno_state`. */
const PHASE = 0;
const ROLE = 2;
const TEP = 3;
const PEER_GOPT = 4;
const TRANSCRIPT_LENGTH = 9;
const CIPHER = 10;
const TRANSCRIPT = 16;
const ENCRYPTING = 3;
const OFFERED = 1;
const GLOBAL_A = 2;

/** Of a connected socket. */
export function connectionFacts(fd: number): ConnectionFacts {
  const state = enoStateBytes(fd);
  if (state === undefined) return { state: 'plain' };
  const sessionId = tryGetsockopt(fd, IPPROTO_TCP, TCP_ENO.SESSID, TCP_ENO_SESSID_MAX);
  return facts(state, typeof sessionId === 'number' ? undefined : sessionId);
}

/** Of a connection that the daemon carries. */
export const factsOf = ({ state, sessionId }: CarriedFacts): ConnectionFacts => facts(state, sessionId);

function facts(state: Buffer, sessionId: Buffer | undefined): ConnectionFacts {
  const phase = state.readUInt8(PHASE);
  if (phase === OFFERED || (phase === ENCRYPTING && sessionId === undefined)) return { state: 'negotiating' };
  if (phase !== ENCRYPTING || sessionId === undefined) return { state: 'plain' };
  const cipher = state.readUInt16LE(CIPHER);
  const length = state.readUInt8(TRANSCRIPT_LENGTH);
  return {
    state: 'encrypted',
    sessionId: sessionId.toString('hex'),
    role: state.readUInt8(ROLE) === 0 ? 'A' : 'B',
    tep: `0x${state.readUInt8(TEP).toString(16)}`,
    ...(cipher === 0 ? {} : { cipher: `0x${cipher.toString(16).padStart(4, '0')}` }),
    peerAware: (state.readUInt8(PEER_GOPT) & GLOBAL_A) !== 0,
    transcript: state.subarray(TRANSCRIPT, TRANSCRIPT + length).toString('hex'),
  };
}
