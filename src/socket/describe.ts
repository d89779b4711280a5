/** A connection in words, for logs and `--json`: the same names everywhere. */
import { fingerprint } from '../auth/known-key.js';
import type { Peer } from '../auth/mechanism.js';
import type { ErrorCode } from '../errors.js';
import { AEADS, type AeadId, TEPS, type TepId } from '../session/index.js';

/** What {@link describe} looks at; Socket and Channel both have it. */
export interface Describable {
  readonly encrypted: boolean;
  readonly plainReason: ErrorCode | undefined;
  readonly role: 'A' | 'B' | undefined;
  readonly tep: TepId | undefined;
  readonly cipher: AeadId | undefined;
  readonly resumed: boolean;
  readonly peerAware: boolean | undefined;
  readonly transcript: Uint8Array | undefined;
  readonly peer: Peer | undefined;
}

export interface PeerDescription {
  readonly mechanism: string;
  readonly name: string;
  /** Of the host key, as "SHA256:…"; or of the certificate, hexadecimal. */
  readonly fingerprint?: string;
}

export interface ConnectionDescription {
  readonly encrypted: boolean;
  /** Why it is plain TCP, as an error code. */
  readonly plainReason?: ErrorCode;
  /** Identifier and name in the registry, e.g. "0x23", "TCPCRYPT_ECDHE_Curve25519". */
  readonly tep?: string;
  readonly tepName?: string;
  /** Identifier and name in the registry, e.g. "0x0001", "AES-128-GCM". */
  readonly cipher?: string;
  readonly cipherName?: string;
  readonly role?: 'A' | 'B';
  readonly resumed?: boolean;
  readonly peerAware?: boolean;
  /** Hexadecimal. Not secret (RFC 8547 §5.1). */
  readonly sessionId?: string;
  readonly transcript?: string;
  /** Who the peer has proved to be. */
  readonly peer?: PeerDescription;
}

/** @param sessionId as the connection has it; absent before 'secure' */
export function describe(connection: Describable, sessionId: Uint8Array | undefined): ConnectionDescription {
  const { encrypted, plainReason, role, tep, cipher, resumed, peerAware, transcript, peer } = connection;
  if (!encrypted) return plainReason === undefined ? { encrypted } : { encrypted, plainReason };
  return {
    encrypted,
    ...(tep === undefined ? {} : { tep: identifier(tep, 2), tepName: TEPS[tep].name }),
    ...(cipher === undefined ? {} : { cipher: identifier(cipher, 4), cipherName: AEADS[cipher].name }),
    ...(role === undefined ? {} : { role }),
    resumed,
    ...(peerAware === undefined ? {} : { peerAware }),
    ...(sessionId === undefined ? {} : { sessionId: hex(sessionId) }),
    ...(transcript === undefined ? {} : { transcript: hex(transcript) }),
    ...(peer === undefined ? {} : { peer: describePeer(peer) }),
  };
}

function describePeer({ mechanism, name, key, certificate }: Peer): PeerDescription {
  const print = key === undefined ? certificate?.fingerprint256 : fingerprint(key);
  return { mechanism, name, ...(print === undefined ? {} : { fingerprint: print }) };
}

export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');

const identifier = (id: number, digits: number): string => `0x${id.toString(16).padStart(digits, '0')}`;
