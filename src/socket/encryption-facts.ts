import type { ErrorCode } from '../errors.js';
import type { AeadId, Session, TepId } from '../session/index.js';

/** What a connection's encryption came to; for words, see describe.ts. */
export abstract class EncryptionFacts {
  /** Undefined: the connection is plain TCP. */
  protected session: Session | undefined;
  /** Why the connection is plain TCP. */
  plainReason: ErrorCode | undefined;

  /** Whether bytes on the wire are encrypted; final from the beginning. */
  get encrypted(): boolean {
    return this.session !== undefined;
  }
  get role(): 'A' | 'B' | undefined {
    return this.session?.role;
  }
  get tep(): TepId | undefined {
    return this.session?.tep;
  }
  get cipher(): AeadId | undefined {
    return this.session?.cipher;
  }
  get resumed(): boolean {
    return this.session?.resumed ?? false;
  }
  /** 33 bytes (RFC 8548 §3.4), from onReady on. */
  get sessionId(): Uint8Array | undefined {
    return this.session?.sessionId;
  }
  get transcript(): Uint8Array | undefined {
    return this.session?.transcript;
  }
  get peerAware(): boolean | undefined {
    return this.session?.peerAware;
  }
}
