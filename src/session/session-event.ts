/** What a Session tells, by pollEvent(). */
export type SessionEvent =
  /** `sessionId` and `cipher` are available from now on. */
  | { readonly type: 'secure' }
  /** Authentic application data, never empty; those of frames that came together are together, up to `plaintextAtOnce`. */
  | { readonly type: 'data'; readonly data: Uint8Array }
  /** Authenticated end of the stream: FINp (TC-37). */
  | { readonly type: 'end' }
  /** The peer moved to this key generation: it is alive (TC-44). */
  | { readonly type: 'rekeyed'; readonly generation: number };

/**
 * 'exchanging': no keys yet. 'open': data flow, perhaps in one direction only. 'closed': both directions ended with
 * FINp. 'failed': an error, or destroyed.
 */
export type SessionState = 'exchanging' | 'open' | 'closed' | 'failed';
