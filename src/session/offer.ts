/** What we say in our SYN segments: the contents of the ENO option (RFC 8547 §4.1), without kind and length. */
import {
  encodeEnoContents,
  FLAG_V,
  GLOBAL_A,
  GLOBAL_B,
  RESUME_HALF_LENGTH,
  type TepId,
} from '../wire/index.js';
import { joined } from './joined.js';
import { type ResumableSession, resumptionHalves } from './resumption.js';
import { SYN_CONTENTS } from './tuning.js';

const fresh = (tep: TepId) => ({ tep, v: false, data: new Uint8Array() });

const global = (aware: boolean, b: boolean): number => (aware ? GLOBAL_A : 0) | (b ? GLOBAL_B : 0);

/** The bits of the global suboption (RFC 8547 §4.2). */
export interface Bits {
  /** The application knows of encryption. */
  readonly aware?: boolean;
  /** Take role B although this end opens actively, for a simultaneous open (RFC 8547 §4.3). */
  readonly b?: boolean;
}

/**
 * The active opener's SYN, `teps` most preferred first. Host B chooses: the order counts in a simultaneous open in which
 * that is us (b=1), and is then that of increasing preference (ENO-24).
 */
export const activeOffer = (teps: readonly TepId[], { aware = false, b = false }: Bits = {}): Uint8Array =>
  encodeEnoContents({ global: global(aware, b), suboptions: teps.map(fresh).reverse() });

/** A SYN that proposes to resume. */
export interface ResumptionOffer {
  readonly contents: Uint8Array;
  /** The TEP byte and the half that the SYN-ACK must bring (TC-21). */
  readonly expect: Uint8Array;
}

/** The TEP that every implementation has (RFC 8548 §5). */
const REQUIRED_TEP: TepId = 0x23;

/**
 * The active opener's SYN that proposes to resume `session`. Next to the usual options a SYN has room for 18 bytes of
 * contents, exactly the suboption with an 8-byte nonce. The offer counts for a fresh exchange with its TEP as well; if
 * the peer has given up that TEP in the meantime, the one that it must have anyhow is there: it and the global
 * suboption take a byte of the nonce each.
 *
 * @param nonce at most 8 bytes; the beginning of it is sent
 */
export function resumptionOffer(
  session: ResumableSession,
  nonce: Uint8Array,
  teps: readonly TepId[],
  { aware = false, b = false }: Bits = {},
): ResumptionOffer {
  const { tep } = session;
  const { own, peer } = resumptionHalves(session);
  const others = tep !== REQUIRED_TEP && teps.includes(REQUIRED_TEP) ? [fresh(REQUIRED_TEP)] : [];
  const bits = global(aware, b);
  const room = SYN_CONTENTS - 1 - RESUME_HALF_LENGTH - others.length - (bits === 0 ? 0 : 1);
  const data = joined(own, nonce.length <= room ? nonce : nonce.slice(0, room));
  return {
    contents: encodeEnoContents({ global: bits, suboptions: [...others, { tep, v: true, data }] }),
    expect: joined(Uint8Array.of(tep | FLAG_V), peer),
  };
}

/**
 * What a listener accepts, `teps` most preferred first. As everything that host B says it lists them in order of
 * increasing preference (ENO-24); the SYN-ACK then carries solely the one that is chosen (ENO-25).
 */
export const passiveOffer = (teps: readonly TepId[], aware = false): Uint8Array =>
  encodeEnoContents({ global: global(aware, true), suboptions: teps.map(fresh).reverse() });
