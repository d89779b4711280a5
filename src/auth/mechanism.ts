/** What every mechanism of authentication is to the frame that runs it. */
import type { X509Certificate } from 'node:crypto';
import type { MechanismName } from './constants.js';
import type { Role } from './hello.js';

/** Who is at the other end, and how we know. */
export interface Peer {
  readonly mechanism: MechanismName;
  /** Name of the key, the user, the host: whatever the mechanism authenticates. */
  readonly name: string;
  /** The raw Ed25519 public key (known-key). */
  readonly key?: Buffer;
  /** The certificate of the peer itself (certificate). */
  readonly certificate?: X509Certificate;
}

/** One way to prove who we are, or to check it: what `cpace`, `certificate` and their siblings give. */
export interface Mechanism {
  readonly name: MechanismName;
  /** We can prove to the peer who we are, and check its proof. A mutual mechanism says both or neither. */
  readonly canProve: boolean;
  readonly canVerify: boolean;
  /** At most 255 bytes that the peer is told beforehand. Somebody in the middle can read them. */
  readonly hint: Uint8Array;
  /** Whether it can be used in our role; without it, in both. */
  fits?(role: Role): boolean;
  /**
   * Speaks with the peer.
   * @returns who the peer is; undefined when the peer did not prove anything in this run
   * @throws the error that refuses the connection
   */
  run(exchange: Exchange): Promise<Peer | undefined>;
}

/** One run of a mechanism on one connection. */
export interface Exchange {
  readonly role: Role;
  /** We prove who we are; the peer does. One of them, or both. */
  readonly proving: boolean;
  readonly verifying: boolean;
  /** The hint of the peer's mechanism of the same name. */
  readonly peerHint: Buffer;
  readonly remoteAddress: string | undefined;
  /**
   * The 32 bytes that a proof of `prover` must cover (ENO-62): version, mechanism, role of who proves, session ID,
   * and both HELLOs, thus the whole negotiation.
   */
  binding(prover: Role): Buffer;
  send(body: Uint8Array): void;
  /**
   * The peer's next message in this run, at most `limit` bytes.
   * @throws ERR_TCPCRYPT_AUTH_TOO_LONG, _MESSAGE, _REFLECTED, _TRUNCATED, _REFUSED
   */
  receive(limit: number): Promise<Buffer>;
}
