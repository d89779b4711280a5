/** What one connection has to do with the cache of sessions (RFC 8548 §3.5). */
import type { Socket as TcpSocket } from 'node:net';
import type { EnoOutcome } from '../kernel/eno-socket.js';
import {
  type Negotiated,
  negotiatedFromTranscript,
  type Plain,
  type ResumableSession,
  type ResumptionAttempt,
  type ResumptionChain,
  resumptionProposal,
} from '../session/index.js';
import type { Opened } from './dial.js';
import type { Resumption } from './options.js';
import { peerOfAddress } from './session-cache.js';

export class Resuming {
  readonly #resumption: Resumption;
  readonly #opened: Opened | undefined;
  /** Under which the session of this connection will be kept. */
  #peer = '';
  #attempt: ResumptionAttempt | undefined;
  /** The cache's state that this connection used or produced. */
  #chain: ResumptionChain | undefined;

  constructor(resumption: Resumption, opened: Opened | undefined) {
    this.#resumption = resumption;
    this.#opened = opened;
  }

  /**
   * What the transcript says, given what our SYN proposed to resume, or our kernel agreed to.
   * @throws ERR_TCPCRYPT_RESUMPTION_LOST, nothing else
   */
  negotiate(outcome: EnoOutcome, mandatoryAware: boolean): Negotiated | Plain {
    const encrypt = outcome.result === 'encrypt';
    if (this.#opened !== undefined) this.#attempt = this.#opened.attempt;
    else if (encrypt) this.#attempt = this.#resumption.cache.answered(outcome.transcript);
    const attempt = this.#attempt;
    const negotiated = encrypt
      ? negotiatedFromTranscript(outcome.transcript, outcome.role, {
          mandatoryAware,
          resumption: attempt && resumptionProposal(attempt.session),
        })
      : outcome;
    if (attempt !== undefined && negotiated.result === 'plain') this.#settle(attempt, 'lost');
    return negotiated;
  }

  /** The session to go on with, of a negotiation that came to resumption; erased by {@link settle}. */
  get session(): ResumableSession | undefined {
    return this.#attempt?.session;
  }

  /** To be told what was negotiated, when its keys have been made. */
  settle(kind: Negotiated['kind'], transport: TcpSocket): void {
    if (this.#attempt !== undefined) this.#settle(this.#attempt, kind === 'resume' ? 'resumed' : 'refused');
    if (kind === 'fresh') this.#peer = this.#opened?.peer ?? peerOfAddress(transport.remoteAddress ?? '');
  }

  /** Later connections may resume this one. */
  keep(session: ResumableSession): void {
    this.#chain = this.#resumption.cache.keep(this.#peer, session);
  }

  /** Later connections cannot resume this one, nor what it has resumed (TC-29). */
  forget(): void {
    if (this.#chain !== undefined) this.#resumption.cache.forget(this.#chain);
  }

  #settle(attempt: ResumptionAttempt, result: 'resumed' | 'refused' | 'lost'): void {
    const { cache, keep } = this.#resumption;
    cache.settle(attempt, result);
    this.#attempt = undefined;
    if (result !== 'resumed') return;
    this.#chain = attempt.chain;
    if (!keep) cache.forget(attempt.chain);
  }
}
