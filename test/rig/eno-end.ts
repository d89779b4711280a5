/**
 * What a host's TCP does with the ENO option (RFC 8547 §4.6): a model of what the kernel part does, built on the
 * functions of src/session that say what the options mean.
 *
 *     OFFERED ──SYN-ACK, agreed──► encrypt        ANSWERED ──first ACK with ENO──► encrypt
 *        └──anything else──► plain                    └──first ACK, or any segment before, without──► plain
 */
import type { ErrorCode } from '#src/errors.js';
import {
  activeOpener,
  type Negotiated,
  type NegotiationOptions,
  negotiate,
  type Plain,
  passiveOpener,
  type ResumableSession,
  resumptionHalves,
  resumptionProposal,
} from '#src/session/index.js';
import {
  encodeEnoContents,
  enoOption,
  findEnoOptions,
  GLOBAL_A,
  GLOBAL_B,
  parseEnoContents,
  RESUME_HALF_LENGTH,
  type Suboption,
  TCP_OPTION_NOP,
  type TepId,
} from '#src/wire/index.js';
import { NO_BYTES, type Segment } from './segment.js';
import type { SegmentKind } from './tcp.js';

export interface EnoSettings {
  /** false: a host that has never heard of ENO. */
  readonly speaksEno: boolean;
  /** Most preferred first. */
  readonly teps: readonly [TepId, ...TepId[]];
  readonly aware: boolean;
  readonly mandatoryAware: boolean;
  /** The SYNs that carry ENO, before it is given up (ENO-33). */
  readonly synTries: number;
  /** Active openers: take role B (ENO-18). */
  readonly roleB: boolean;
  /** Active openers: the session to propose. */
  readonly resumption: ResumableSession | undefined;
  /** Passive openers: takes the session whose identifier begins with the peer's half out of the cache. */
  readonly find: (tep: number, peerHalf: Uint8Array) => ResumableSession | undefined;
  /** For our half of the resumption identifier: 0 to 8 bytes. */
  readonly nonce: Uint8Array;
}

/** MSS 1460, as every SYN has it: ENO is not alone. */
const MSS_OPTION = Uint8Array.of(2, 4, 5, 0xb4);

export class EnoEnd {
  readonly #settings: EnoSettings;
  readonly #active: boolean;
  /** Contents of our SYN-form option. */
  #own: Uint8Array | undefined;
  /** The options of the peer's SYN. */
  #peerSyn: Uint8Array | undefined;
  #disabled: ErrorCode | undefined;
  #firstAck: (options: Uint8Array) => Negotiated | Plain = () => this.#plain('ERR_TCPCRYPT_ENO_ABSENT');
  #nonSynReceived = false;
  #ackReceived = false;
  /** What was found in the cache, or proposed. */
  resumption: ResumableSession | undefined;
  /** Undefined until the first ACK segment is here. */
  outcome: Negotiated | Plain | undefined;

  constructor(settings: EnoSettings, active: boolean) {
    this.#settings = settings;
    this.#active = active;
    if (!settings.speaksEno) this.#disabled = 'ERR_TCPCRYPT_ENO_ABSENT';
    if (!active || !settings.speaksEno) return;
    this.resumption = settings.resumption;
    this.#own = this.#offer();
  }

  options(kind: SegmentKind, attempt: number): Uint8Array {
    switch (kind) {
      case 'syn':
        if (attempt >= this.#settings.synTries) this.#disabled ??= 'ERR_TCPCRYPT_ENO_GIVEN_UP'; // ENO-33
        return withMss(this.#synForm());
      case 'syn-ack':
        return withMss(this.#synForm());
      case 'other':
        // ENO-26, ENO-7: in every segment, empty, until a non-SYN segment has arrived.
        return this.#disabled === undefined && !this.#nonSynReceived ? padded(enoOption(NO_BYTES)) : NO_BYTES;
    }
  }

  accepted(segment: Segment): void {
    if (!this.#ackReceived) this.#consider(segment);
    if (segment.ack) this.#ackReceived = true;
    if (!segment.syn) this.#nonSynReceived = true;
  }

  /** Every segment counts, up to the first ACK segment (ENO-28). */
  #consider(segment: Segment): void {
    if (segment.syn && !segment.ack) {
      this.#considerSyn(segment.options);
      return;
    }
    if (this.#disabled !== undefined) this.outcome = this.#plain(this.#disabled);
    else if (segment.syn) this.outcome = this.#considerSynAck(segment.options);
    else this.outcome = this.#firstAck(segment.options);
    if (this.outcome.result === 'plain') this.#disabled ??= this.outcome.reason;
  }

  #considerSyn(options: Uint8Array): void {
    if (this.#disabled !== undefined) return;
    if (this.#peerSyn !== undefined) {
      // Readings 5: sent again with another option, or without.
      if (!equal(enoOf(options), enoOf(this.#peerSyn))) this.#disabled = 'ERR_TCPCRYPT_ENO_ABSENT';
      return;
    }
    this.#peerSyn = options;
    if (!this.#active) this.#answer(options);
    else {
      const outcome = activeOpener(this.#own ?? NO_BYTES, options, this.#negotiationOptions());
      if (outcome.result === 'plain') this.#disabled = outcome.reason; // ENO-34
      this.#firstAck = ifEno(outcome);
    }
  }

  #considerSynAck(options: Uint8Array): Negotiated | Plain {
    if (this.#peerSyn !== undefined && !equal(enoOf(options), enoOf(this.#peerSyn)))
      return this.#plain('ERR_TCPCRYPT_ENO_ABSENT'); // ENO-32
    return activeOpener(this.#own ?? NO_BYTES, options, this.#negotiationOptions());
  }

  /** The passive opener: resumes what it finds, else a fresh exchange. */
  #answer(options: Uint8Array): void {
    const { teps, aware, mandatoryAware } = this.#settings;
    const agreed = this.#agreeToResume(options);
    if (agreed !== undefined) {
      this.#firstAck = ifEno(agreed);
      return;
    }
    const answer = passiveOpener(options, { teps, aware, mandatoryAware });
    if (answer.result === 'plain') {
      this.#disabled = answer.reason;
      return;
    }
    this.#own = answer.contents;
    this.#firstAck = (first) => answer.firstAck(first);
  }

  #agreeToResume(options: Uint8Array): Negotiated | undefined {
    const [contents, second] = findEnoOptions(options);
    if (contents === undefined || second !== undefined) return undefined;
    const offer = parseEnoContents(contents);
    if (!offer.wellFormed) return undefined;
    for (const { tep, v, data } of offer.suboptions) {
      if (!v || data.length < RESUME_HALF_LENGTH) continue; // TC-20
      const found = this.#settings.find(tep, data.subarray(0, RESUME_HALF_LENGTH));
      if (found === undefined) continue;
      this.resumption = found;
      const own = encodeEnoContents({
        global: GLOBAL_B | (this.#settings.aware ? GLOBAL_A : 0),
        suboptions: [this.#proposalOf(found)],
      });
      const outcome = negotiate(own, contents, this.#negotiationOptions());
      if (outcome.result === 'plain') return undefined;
      this.#own = own;
      return outcome;
    }
    return undefined;
  }

  #offer(): Uint8Array {
    const { teps, aware, roleB } = this.#settings;
    const fresh = teps
      .filter((tep) => tep !== this.resumption?.tep)
      .map((tep) => ({ tep, v: false, data: NO_BYTES }))
      .reverse();
    // ENO-11: the suboption with data is the last one, which saves its length byte.
    const suboptions = this.resumption === undefined ? fresh : [...fresh, this.#proposalOf(this.resumption)];
    return encodeEnoContents({ global: (roleB ? GLOBAL_B : 0) | (aware ? GLOBAL_A : 0), suboptions });
  }

  #proposalOf(session: ResumableSession): Suboption {
    const { own } = resumptionHalves(session);
    return { tep: session.tep, v: true, data: new Uint8Array(Buffer.concat([own, this.#settings.nonce])) };
  }

  #negotiationOptions(): NegotiationOptions {
    return {
      mandatoryAware: this.#settings.mandatoryAware,
      resumption: this.resumption && resumptionProposal(this.resumption),
    };
  }

  #synForm(): Uint8Array {
    return this.#disabled !== undefined || this.#own === undefined ? NO_BYTES : enoOption(this.#own); // ENO-31
  }

  #plain(reason: ErrorCode): Plain {
    return { result: 'plain', reason };
  }
}

/** Presence is all that counts in a non-SYN segment (ENO-6, ENO-7). */
const ifEno =
  (outcome: Negotiated | Plain) =>
  (options: Uint8Array): Negotiated | Plain =>
    findEnoOptions(options).length > 0 ? outcome : { result: 'plain', reason: 'ERR_TCPCRYPT_ENO_NO_ACK' };

const withMss = (option: Uint8Array): Uint8Array =>
  padded(new Uint8Array(Buffer.concat([MSS_OPTION, option])));

/** The option area is a multiple of 4 bytes. */
function padded(option: Uint8Array): Uint8Array {
  const area = new Uint8Array((option.length + 3) & ~3).fill(TCP_OPTION_NOP);
  area.set(option);
  return area;
}

const enoOf = (options: Uint8Array): Uint8Array[] => findEnoOptions(options);
const equal = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.length === b.length && a.every((bytes, i) => Buffer.compare(bytes, b[i] ?? NO_BYTES) === 0);
