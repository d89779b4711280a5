/**
 * TCP-ENO negotiation for tcpcrypt (RFC 8547 §4, RFC 8548 §3.2, §3.5): what the two SYN-form options mean.
 *
 * {@link negotiate} knows both options and is the heart of it. {@link negotiatedFromTranscript} feeds it from what a
 * kernel remembers. {@link activeOpener} and {@link passiveOpener} feed it from TCP option areas, for whoever
 * handles segments; they also say which option to send next.
 */
import type { ErrorCode } from '../errors.js';
import {
  encodeEnoContents,
  enoOption,
  FLAG_V,
  findEnoOptions,
  GLOBAL_A,
  GLOBAL_B,
  isAware,
  isRoleB,
  isTepId,
  MAX_ENO_CONTENTS,
  MAX_RESUME_NONCE,
  parseEnoContents,
  RESUME_HALF_LENGTH,
  type ReceivedEnoContents,
  type Suboption,
  type TepId,
} from '../wire/index.js';

/** Who sends Init1, and whose ENO option comes first (RFC 8547 §4.3). */
export type Role = 'A' | 'B';

interface NegotiatedCommon {
  readonly result: 'encrypt';
  /** In this connection; decides who sends Init1. */
  readonly role: Role;
  readonly tep: TepId;
  /** The byte that B sent, v bit included: the first byte of the session ID. */
  readonly tepByte: number;
  readonly peerAware: boolean;
  /** Host A's whole ENO option, then host B's (RFC 8547 §4.8). */
  readonly transcript: Uint8Array;
}

/** A key exchange follows. */
export interface NegotiatedFresh extends NegotiatedCommon {
  readonly kind: 'fresh';
}

/** Both ends proved to know the same resumption identifier. `peerAware` is then not authenticated. */
export interface NegotiatedResumption extends NegotiatedCommon {
  readonly kind: 'resume';
  /** 0 to 8 bytes each. Which of them is nonce_a depends on the roles in the original session. */
  readonly ownNonce: Uint8Array;
  readonly peerNonce: Uint8Array;
}

/** ENO has succeeded. */
export type Negotiated = NegotiatedFresh | NegotiatedResumption;

/** The connection is plain TCP. `reason` is a code whose consequence is 'plain'. */
export interface Plain {
  readonly result: 'plain';
  readonly reason: ErrorCode;
}

/** A session that this end proposed, or agreed, to resume. */
export interface ResumptionProposal {
  readonly tep: TepId;
  /** The half of the resumption identifier that only the peer owns: 9 bytes (RFC 8548 §3.5). */
  readonly peerHalf: Uint8Array;
}

/** What this end wants besides encryption. */
export interface NegotiationOptions {
  /** Mandatory application-aware mode: no encryption unless the peer's a bit is set (ENO-21). */
  readonly mandatoryAware?: boolean;
  readonly resumption?: ResumptionProposal | undefined;
}

/**
 * What becomes of a connection. `own` and `peer` are the contents, without kind and length, of the ENO options in
 * the SYN segments that this end and the peer sent. Who opened does not matter: the b bits give the roles.
 */
export function negotiate(
  own: Uint8Array,
  peer: Uint8Array,
  options: NegotiationOptions = {},
): Negotiated | Plain {
  return decide(own, peer, options);
}

/** @param known the transcript of both options, where there is one already */
function decide(
  own: Uint8Array,
  peer: Uint8Array,
  options: NegotiationOptions,
  known?: Uint8Array,
): Negotiated | Plain {
  // More than an option can hold comes from no TCP header.
  if (peer.length > MAX_ENO_CONTENTS) return plain('ERR_TCPCRYPT_ENO_MALFORMED');
  const ours = parseEnoContents(own);
  const theirs = parseEnoContents(peer);
  if (!ours.wellFormed || !theirs.wellFormed) return plain('ERR_TCPCRYPT_ENO_MALFORMED'); // ENO-13, ENO-14
  if (isRoleB(ours) === isRoleB(theirs)) return plain('ERR_TCPCRYPT_ENO_ROLE'); // ENO-23
  if (options.mandatoryAware === true && !isAware(theirs)) return plain('ERR_TCPCRYPT_ENO_UNAWARE'); // ENO-21
  if (ours.suboptions.length === 0 || theirs.suboptions.length === 0)
    return plain('ERR_TCPCRYPT_ENO_VACUOUS'); // ENO-37

  const role: Role = isRoleB(ours) ? 'B' : 'A';
  const chosen = chooseTep(ours, theirs, role, options.resumption);
  if (chosen === undefined) return plain('ERR_TCPCRYPT_ENO_NO_TEP'); // ENO-29, TC-3
  const { tep, nonces } = chosen;
  const peerAware = isAware(theirs);
  const both = known ?? (role === 'A' ? transcript(own, peer) : transcript(peer, own));
  if (nonces === undefined)
    return { result: 'encrypt', kind: 'fresh', role, tep, tepByte: tep, peerAware, transcript: both };
  const { ownNonce, peerNonce } = nonces;
  const tepByte = tep | FLAG_V;
  return {
    result: 'encrypt',
    kind: 'resume',
    role,
    tep,
    tepByte,
    peerAware,
    transcript: both,
    ownNonce,
    peerNonce,
  };
}

/**
 * The same from a transcript (host A's ENO option, then host B's) and this end's role, which is all that a kernel
 * remembers once the handshake is over. Peer and path were checked before: the first ACK carried ENO.
 */
export function negotiatedFromTranscript(
  bytes: Uint8Array,
  role: Role,
  options: NegotiationOptions = {},
): Negotiated | Plain {
  const found = findEnoOptions(bytes);
  const [a, b] = found;
  if (a === undefined || b === undefined) return plain('ERR_TCPCRYPT_ENO_ABSENT');
  if (found.length > 2 || a.length + b.length + 4 !== bytes.length)
    return plain('ERR_TCPCRYPT_ENO_MALFORMED');
  const known = new Uint8Array(bytes);
  const outcome = role === 'A' ? decide(a, b, options, known) : decide(b, a, options, known);
  // The b bits must say the same as the kernel does.
  return outcome.result === 'encrypt' && outcome.role !== role ? plain('ERR_TCPCRYPT_ENO_ROLE') : outcome;
}

/**
 * The active opener's view, once the SYN-ACK is here (RFC 8547 §4.6). `receivedOptions` is the whole TCP option
 * area of the SYN-ACK. When the result is 'encrypt', every ACK must carry a non-SYN-form ENO option until a
 * non-SYN segment arrives (ENO-26, ENO-27); when it is 'plain', none may (ENO-31).
 */
export function activeOpener(
  offer: Uint8Array,
  receivedOptions: Uint8Array,
  options: NegotiationOptions = {},
): Negotiated | Plain {
  const received = soleEnoOption(receivedOptions);
  return received instanceof Uint8Array ? negotiate(offer, received, options) : received;
}

/** What a listener accepts. */
export interface PassiveOpenerOptions {
  /** What this end accepts, most preferred first. */
  readonly teps: readonly TepId[];
  /** Our a bit. */
  readonly aware?: boolean;
  readonly mandatoryAware?: boolean;
}

/** What to answer a SYN with. */
export interface PassiveAnswer {
  readonly result: 'answer';
  /** The contents of the ENO option for the SYN-ACK; the same for every retransmission (ENO-32). */
  readonly contents: Uint8Array;
  /** Undecided until the peer's first ACK segment is here: give its whole TCP option area. */
  firstAck(receivedOptions: Uint8Array): Negotiated | Plain;
}

/**
 * The passive opener's view, when a SYN arrives; resumption is not offered. `receivedOptions` is the whole TCP
 * option area of the SYN. When the result is 'plain', the SYN-ACK carries no ENO option.
 */
export function passiveOpener(
  receivedOptions: Uint8Array,
  options: PassiveOpenerOptions,
): PassiveAnswer | Plain {
  const received = soleEnoOption(receivedOptions);
  if (!(received instanceof Uint8Array)) return received;
  const { teps, aware = false, mandatoryAware = false } = options;
  const answer = (tep: TepId): Uint8Array =>
    encodeEnoContents({
      global: GLOBAL_B | (aware ? GLOBAL_A : 0), // ENO-16
      suboptions: [{ tep, v: false, data: new Uint8Array() }], // solely the chosen one (TC-2, ENO-25)
    });
  // TC-20, TC-19: a resumption offer counts as one for a fresh exchange, so v and data do not matter here.
  let outcome: Negotiated | Plain = plain('ERR_TCPCRYPT_ENO_NO_TEP');
  for (const tep of teps) {
    outcome = negotiate(answer(tep), received, { mandatoryAware });
    if (outcome.result === 'encrypt' || outcome.reason !== 'ERR_TCPCRYPT_ENO_NO_TEP') break;
  }
  if (outcome.result === 'plain') return outcome;
  const negotiated = outcome;
  return {
    result: 'answer',
    contents: answer(negotiated.tep),
    // ENO-6, ENO-7: in a non-SYN segment, presence is all that counts.
    firstAck: (options) =>
      findEnoOptions(options).length > 0 ? negotiated : plain('ERR_TCPCRYPT_ENO_NO_ACK'),
  };
}

const plain = (reason: ErrorCode): Plain => ({ result: 'plain', reason });

function soleEnoOption(tcpOptions: Uint8Array): Uint8Array | Plain {
  const [first, second] = findEnoOptions(tcpOptions);
  if (first === undefined) return plain('ERR_TCPCRYPT_ENO_ABSENT'); // ENO-28
  return second === undefined ? first : plain('ERR_TCPCRYPT_ENO_REPEATED'); // ENO-5
}

function transcript(a: Uint8Array, b: Uint8Array): Uint8Array {
  const optionA = enoOption(a);
  const optionB = enoOption(b);
  const both = new Uint8Array(optionA.length + optionB.length);
  both.set(optionA);
  both.set(optionB, optionA.length);
  return both;
}

interface Choice {
  readonly tep: TepId;
  readonly nonces?: { readonly ownNonce: Uint8Array; readonly peerNonce: Uint8Array };
}

/** The last valid identifier in B's option (ENO-24); the v bits need not agree (TC-4). */
function chooseTep(
  ours: ReceivedEnoContents,
  theirs: ReceivedEnoContents,
  role: Role,
  resumption: ResumptionProposal | undefined,
): Choice | undefined {
  const hostB = role === 'B' ? ours : theirs;
  for (let i = hostB.suboptions.length - 1; i >= 0; i--) {
    const tep = hostB.suboptions[i]?.tep ?? 0;
    if (!isTepId(tep)) continue;
    const own = soleSuboption(ours, tep);
    const peer = soleSuboption(theirs, tep);
    if (own === undefined || peer === undefined) continue;
    const fromB = role === 'B' ? own : peer;
    if (!fromB.v) return { tep };
    // RFC 8548 §3.5: B's v=1 is valid only if both halves fit; else it is ignored (TC-21).
    const halvesFit = resumption?.tep === tep && own.v && startsWith(peer, resumption.peerHalf);
    if (!halvesFit || !isResumption(own) || !isResumption(peer)) continue;
    const nonce = ({ data }: Suboption): Uint8Array => data.slice(RESUME_HALF_LENGTH);
    return { tep, nonces: { ownNonce: nonce(own), peerNonce: nonce(peer) } };
  }
  return undefined;
}

/** tcpcrypt defines no repetition, so a repeated identifier is not valid (RFC 8547 §4.5). */
function soleSuboption(eno: ReceivedEnoContents, tep: TepId): Suboption | undefined {
  let sole: Suboption | undefined;
  for (const suboption of eno.suboptions) {
    if (suboption.tep !== tep) continue;
    if (sole !== undefined) return undefined;
    sole = suboption;
  }
  return sole;
}

/** A half of 9 bytes and a nonce of 0 to 8 (TC-15). */
const isResumption = ({ v, data }: Suboption): boolean =>
  v && data.length >= RESUME_HALF_LENGTH && data.length <= RESUME_HALF_LENGTH + MAX_RESUME_NONCE;

/** The identifiers are sent in clear: a comparison in constant time would hide nothing. */
function startsWith({ data }: Suboption, half: Uint8Array): boolean {
  if (half.length !== RESUME_HALF_LENGTH) return false;
  for (let i = 0; i < RESUME_HALF_LENGTH; i++) if (data[i] !== half[i]) return false;
  return true;
}
