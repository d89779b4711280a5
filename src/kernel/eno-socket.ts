/**
 * TCP-ENO on a socket, through the socket options of include/tcp_eno.h. Needs no privilege, and no libbpf.
 *
 *     fd = openEnoSocket(4, { contents })     before connect(2) or listen(2)
 *     outcome = enoOutcome(fd)                once connected, or accepted
 *     publishSessionId(fd, id)                once the TEP has derived it
 */
import { type ErrorCode, TcpcryptError } from '../errors.js';
import {
  AF_INET,
  AF_INET6,
  close,
  EINVAL,
  ENOPROTOOPT,
  IPPROTO_TCP,
  SO_OOBINLINE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockopt,
  socket,
  systemError,
  TCP_FASTOPEN,
  tryGetsockopt,
  trySetsockopt,
} from './libc.js';

/** The names and numbers of include/tcp_eno.h. */
export const TCP_ENO = {
  ENABLED: 1026,
  SESSID: 1027,
  NEGTEP: 1028,
  TEPS: 1029,
  SELF_GOPT: 1030,
  PEER_GOPT: 1031,
  AA_MANDATORY: 1032,
  TEP_MANDATORY: 1033,
  ROLE: 1034,
  SELF_NAME: 1035,
  PEER_NAME: 1036,
  RAW: 1037,
  TRANSCRIPT: 1038,
  STATE: 1039,
  SYN_TRIES: 1040,
  EXPECT: 1041,
  RESUME_GROUP: 1042,
  RESUMABLE: 1043,
  RESUME_TAKE: 1044,
} as const;
export const TCP_CRYPT = {
  CONF: 1045,
  ACONF: 1046,
  BCONF: 1047,
  CACHE_FLUSH: 1048,
  RESUMPTION: 1049,
} as const;
export const TCP_ENO_SESSID_MAX = 64;
/** `struct tcp_eno_state`. */
export const TCP_ENO_STATE_SIZE = 96;
/** In the SO_MARK of listeners that speak ENO themselves. */
export const TCP_ENO_LISTENER_MARK = 0x04000000;

/** `enum tcp_eno_phase`. */
const PHASE_ENCRYPTING = 3;
const PHASE_PLAIN = 4;

/** `enum tcp_eno_reason`, by number. */
const REASONS: readonly ErrorCode[] = [
  'ERR_TCPCRYPT_ENO_ABSENT',
  'ERR_TCPCRYPT_ENO_ABSENT',
  'ERR_TCPCRYPT_ENO_MALFORMED',
  'ERR_TCPCRYPT_ENO_REPEATED',
  'ERR_TCPCRYPT_ENO_VACUOUS',
  'ERR_TCPCRYPT_ENO_ROLE',
  'ERR_TCPCRYPT_ENO_NO_TEP',
  'ERR_TCPCRYPT_ENO_NO_ACK',
  'ERR_TCPCRYPT_ENO_GIVEN_UP',
  'ERR_TCPCRYPT_ENO_NO_ROOM',
  'ERR_TCPCRYPT_ENO_SYN_DATA',
  'ERR_TCPCRYPT_ENO_FORGOTTEN',
  'ERR_TCPCRYPT_ENO_UNAWARE',
];

export interface EnoOffer {
  /** Contents of the ENO option, without kind and length, at most 38 bytes (RFC 8547 §4.1); empty turns ENO off. */
  readonly contents: Uint8Array;
  /** SYN segments that carry ENO before the rest goes without, 0 to 255; 2 by default. */
  readonly synTries?: number;
  /** Stay plain unless the peer's application is aware of encryption (RFC 8547 §4.2). */
  readonly mandatoryAware?: boolean;
  /** The TEP byte (v=1) and the data that completes the resumption offered in `contents`. */
  readonly expect?: Uint8Array;
  /** `struct tcp_eno_resume_group`: where a listener finds sessions to resume; see resumption-group.ts. */
  readonly resumeGroup?: Uint8Array;
}

export type EnoOutcome =
  | { readonly result: 'encrypt'; readonly role: 'A' | 'B'; readonly transcript: Uint8Array }
  | { readonly result: 'plain'; readonly reason: ErrorCode };

/** TCP_ENO_SYN_TRIES_DEFAULT: what a socket has that was told nothing. */
const SYN_TRIES_DEFAULT = 2;

/** Whether sockets of this process can speak ENO. Costs four system calls; asks anew every time. */
export function kernelPartPresent(): boolean {
  if (process.platform !== 'linux') return false;
  const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  try {
    return trySetsockopt(fd, IPPROTO_TCP, TCP_ENO.SYN_TRIES, 2) === 0;
  } finally {
    close(fd);
  }
}

/**
 * A TCP socket, non-blocking and close-on-exec, that will offer (connect) or accept (listen) ENO with these contents.
 * The caller owns the descriptor. Throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PLATFORM, and ERR_TCPCRYPT_ARGUMENT for
 * ill-formed contents.
 */
export function openEnoSocket(family: 4 | 6, offer: EnoOffer): number {
  if (process.platform !== 'linux') throw new TcpcryptError('ERR_TCPCRYPT_PLATFORM');
  const fd = socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  try {
    // TCP's urgent pointer is not authentic: it must not take a byte out of the stream (RFC 8547 §5).
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    set(fd, TCP_ENO.RAW, offer.contents, 'contents of the ENO option');
    if (offer.synTries !== undefined && offer.synTries !== SYN_TRIES_DEFAULT)
      set(fd, TCP_ENO.SYN_TRIES, offer.synTries, 'synTries');
    if (offer.mandatoryAware) set(fd, TCP_ENO.AA_MANDATORY, 1, 'mandatoryAware');
    if (offer.expect !== undefined) set(fd, TCP_ENO.EXPECT, offer.expect, 'expect');
    if (offer.resumeGroup !== undefined) set(fd, TCP_ENO.RESUME_GROUP, offer.resumeGroup, 'resumeGroup');
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function set(fd: number, name: number, value: Uint8Array | number, what: string): void {
  const result = trySetsockopt(fd, IPPROTO_TCP, name, value);
  if (result === 0) return;
  if (result === -ENOPROTOOPT) throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT');
  if (result === -EINVAL) {
    // TCP itself says so to every value that is shorter than an int, before it looks at the option.
    if (!kernelPartPresent()) throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT');
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: what });
  }
  throw systemError(`setsockopt(TCP, ${name})`, -result);
}

/** `struct tcp_eno_state`. */
export interface EnoState {
  readonly phase: number;
  readonly reason: number;
  readonly role: 'A' | 'B';
  readonly tep: number;
  readonly peerGopt: number;
  readonly synTries: number;
  readonly synsWithEno: number;
  readonly acknowledging: boolean;
  readonly sessionIdLength: number;
  readonly transcript: Buffer;
}

/** Where they are in `struct tcp_eno_state`. */
const PHASE = 0;
const REASON = 1;
const ROLE = 2;
const TRANSCRIPT_LENGTH = 9;
const TRANSCRIPT = 16;

/** The bytes of `struct tcp_eno_state`; undefined where ENO was never on. */
export function enoStateBytes(fd: number): Buffer | undefined {
  const bytes = tryGetsockopt(fd, IPPROTO_TCP, TCP_ENO.STATE, TCP_ENO_STATE_SIZE);
  if (bytes === -EINVAL || bytes === -ENOPROTOOPT) return undefined;
  if (typeof bytes === 'number') throw systemError(`getsockopt(TCP, ${TCP_ENO.STATE})`, -bytes);
  return bytes;
}

/** All that the kernel knows about a socket's ENO, at any time; undefined where ENO was never on. */
export function enoState(fd: number): EnoState | undefined {
  const bytes = enoStateBytes(fd);
  if (bytes === undefined) return undefined;
  return {
    phase: bytes.readUInt8(PHASE),
    reason: bytes.readUInt8(REASON),
    role: bytes.readUInt8(ROLE) === 1 ? 'B' : 'A',
    tep: bytes.readUInt8(3),
    peerGopt: bytes.readUInt8(4),
    synTries: bytes.readUInt8(5),
    synsWithEno: bytes.readUInt8(6),
    acknowledging: bytes.readUInt8(7) === 1,
    sessionIdLength: bytes.readUInt8(8),
    transcript: bytes.subarray(TRANSCRIPT, TRANSCRIPT + bytes.readUInt8(TRANSCRIPT_LENGTH)),
  };
}

/**
 * What the negotiation of a connected, or accepted, socket came to. One system call.
 * Plain for the reason ERR_TCPCRYPT_KERNEL_ABSENT: the kernel part has gone since the socket was opened, and what it
 * had agreed with the peer is not known.
 */
export function enoOutcome(fd: number): EnoOutcome {
  return outcomeOf(enoStateBytes(fd));
}

/** The same where {@link enoStateBytes} has been asked already. @throws ERR_TCPCRYPT_KERNEL_FEATURE */
export function outcomeOf(bytes: Buffer | undefined): EnoOutcome {
  if (bytes === undefined) {
    const reason = kernelPartPresent() ? 'ERR_TCPCRYPT_ENO_ABSENT' : 'ERR_TCPCRYPT_KERNEL_ABSENT';
    return { result: 'plain', reason };
  }
  const phase = bytes[PHASE];
  const length = bytes[TRANSCRIPT_LENGTH] ?? 0;
  // What stands behind it in memory is somebody else's.
  if (bytes.length !== TCP_ENO_STATE_SIZE || length > TCP_ENO_STATE_SIZE - TRANSCRIPT)
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', { detail: 'a kernel part of another version' });
  if (phase === PHASE_ENCRYPTING)
    return {
      result: 'encrypt',
      role: bytes[ROLE] === 1 ? 'B' : 'A',
      transcript: new Uint8Array(bytes.buffer, bytes.byteOffset + TRANSCRIPT, length),
    };
  if (phase !== PHASE_PLAIN && phase !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'the socket is not connected' });
  return { result: 'plain', reason: REASONS[bytes[REASON] ?? 0] ?? 'ERR_TCPCRYPT_ENO_ABSENT' };
}

/**
 * For a listener with ENO, right after listen(2): data in a SYN with ENO are to be discarded (RFC 8547 §4.7), so it takes
 * none, also where net.ipv4.tcp_fastopen switches TCP Fast Open on for all listeners.
 */
export function refuseSynData(fd: number): void {
  trySetsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, 0); // fails where nobody could switch it on
}

/**
 * Lets every holder of the descriptor read the session ID (TCP_ENO_SESSID), and the AEAD (TCP_CRYPT_CONF). Once per
 * connection.
 */
export function publishSessionId(fd: number, sessionId: Uint8Array, cipher?: number): void {
  setsockopt(fd, IPPROTO_TCP, TCP_ENO.SESSID, sessionId);
  if (cipher !== undefined) setsockopt(fd, IPPROTO_TCP, TCP_CRYPT.CONF, cipher);
}
