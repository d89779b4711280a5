/** Our bits of the packet mark, and the words of nftables about them. */

/**
 * Our bits of the packet mark (`SO_MARK`, `meta mark`) and the mark of connection tracking (`ct mark`). All tests
 * and settings are masked by them, so other users of the marks keep their bits.
 */
export const MARK = {
  /** `SO_MARK` of the daemon's own sockets: their SYNs are never held. */
  DAEMON_SOCKET: 0x01000000,
  /** Verdict: this SYN goes to the daemon's relay port. In the connection mark: as does all that follows it. */
  REDIRECT: 0x02000000,
  /** `sk_mark` of listening sockets that negotiate ENO themselves: never steered to the daemon. */
  LISTENER_SPEAKS_ENO: 0x04000000,
  /**
   * The same bit on a SYN: its socket insists, TCP_ENO_TEP_MANDATORY or TCP_ENO_ENABLED 1 (bpf/eno_wish.h), and whether the
   * destination is known to be plain is not asked. In `sk_mark` only while connecting.
   */
  INSISTS: 0x04000000,
  /** Routed to this machine whatever the destination: the daemon's legs on this machine (see steering.ts). */
  LOCAL_DELIVERY: 0x08000000,
  /** Verdict, of the daemon or of the policy: this segment is answered with RST. */
  REFUSE: 0x10000000,
  /** In connection tracking only: the daemon's transparent listener got the SYN. */
  STEERED: 0x20000000,
  /**
   * Policy, on a SYN: `private-or-clear` or `private`. Gone before the administrator's mangle chains, or routing, see it.
   * In connection tracking, together with PRIVATE: the handshake has shown that it is encrypted.
   */
  ENCRYPT: 0x40000000,
  /** Policy, on a SYN: `private`. In connection tracking: the first segment after the SYN must carry ENO. */
  PRIVATE: 0x80000000,
} as const;

export const hex = (mark: number): string => `0x${(mark >>> 0).toString(16)}`;
/** One of these bits is set. */
export const has = (bits: number): string => `meta mark & ${hex(bits)} != 0`;
/** None of these bits is set. */
export const hasNot = (bits: number): string => `meta mark & ${hex(bits)} == 0`;
/** The packet mark without these bits. */
export const without = (bits: number): string => `meta mark & ${hex(~bits)}`;

/** A SYN without ACK; ECE and CWR are not looked at: an ECN SYN carries both. */
export const IS_SYN = 'tcp flags & (fin | syn | rst | ack) == syn';
/** TCP-ENO's option kind (RFC 8547 §4.1). */
export const ENO_KIND = 69;
