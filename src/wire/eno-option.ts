import { TcpcryptError } from '../errors.js';
import {
  FLAG_V,
  GLOBAL_A,
  GLOBAL_B,
  LAST_GLOBAL,
  LAST_LENGTH_BYTE,
  LAST_TEP_WITHOUT_DATA,
  MAX_ENO_CONTENTS,
  MAX_SUBOPTION_DATA,
  TCP_OPTION_ENO,
} from './constants.js';

/** What one end says about one TCP encryption protocol. */
export interface Suboption {
  /** 7 bits, 0x20 to 0x7f. */
  readonly tep: number;
  /** Bit 7 of the TEP byte: data may follow. */
  readonly v: boolean;
  readonly data: Uint8Array;
}

/** The SYN form of an ENO option (RFC 8547 §4.1): one global suboption and any number of others. */
export interface EnoContents {
  /** The global suboption; 0 when absent (ENO-22). */
  readonly global: number;
  readonly suboptions: readonly Suboption[];
}

export interface ReceivedEnoContents extends EnoContents {
  readonly wellFormed: true;
  /** A global suboption was present. */
  readonly globalExplicit: boolean;
  readonly suboptions: readonly ReceivedSuboption[];
}

export interface ReceivedSuboption extends Suboption {
  /** A length byte stood before it. */
  readonly lengthByte: boolean;
}

export interface IllFormedEno {
  readonly wellFormed: false;
  readonly reason: 'length-byte-last' | 'length-byte-followed-by-00-9f' | 'length-past-end';
  /** Index of the offending length byte. */
  readonly at: number;
}

/** b: the sender takes role B (RFC 8547 §4.3). */
export const isRoleB = (eno: EnoContents): boolean => (eno.global & GLOBAL_B) !== 0;
/** a: the sender's application is aware of encryption (RFC 8547 §4.2). */
export const isAware = (eno: EnoContents): boolean => (eno.global & GLOBAL_A) !== 0;
/** The TEP that would define data in this SYN segment: the last one (RFC 8547 §4.7). */
export const synTep = (eno: EnoContents): number | undefined => eno.suboptions.at(-1)?.tep;

/**
 * Reads the contents of a SYN-form ENO option, without kind and length (RFC 8547 §4.1, §4.2, §4.4).
 *
 *     first byte   meaning                                    size
 *     00-1f        global suboption; the first one counts     1
 *     20-7f        TEP without data                           1
 *     80-9f        length byte, n = (byte & 1f) + 1           1, then a TEP byte a0-ff and n bytes
 *     a0-ff        TEP with data                              1, then the rest of the option
 *
 * The data are views of `contents`. An ill-formed option must be treated as absent (ENO-13, ENO-14).
 */
export function parseEnoContents(contents: Uint8Array): ReceivedEnoContents | IllFormedEno {
  let global: number | undefined;
  const suboptions: ReceivedSuboption[] = [];
  let at = 0;
  for (let first = contents[at]; first !== undefined; first = contents[at]) {
    if (first <= LAST_GLOBAL) {
      global ??= first; // ENO-9
      at += 1;
    } else if (first <= LAST_TEP_WITHOUT_DATA) {
      suboptions.push({ tep: first, v: false, data: NO_DATA, lengthByte: false });
      at += 1;
    } else if (first <= LAST_LENGTH_BYTE) {
      const tep = contents[at + 1];
      const end = at + 2 + dataLength(first);
      if (tep === undefined) return { wellFormed: false, reason: 'length-byte-last', at };
      if (tep <= LAST_LENGTH_BYTE) return { wellFormed: false, reason: 'length-byte-followed-by-00-9f', at };
      if (end > contents.length) return { wellFormed: false, reason: 'length-past-end', at };
      suboptions.push({
        tep: tep & ~FLAG_V,
        v: true,
        data: contents.subarray(at + 2, end),
        lengthByte: true,
      });
      at = end;
    } else {
      suboptions.push({ tep: first & ~FLAG_V, v: true, data: contents.subarray(at + 1), lengthByte: false });
      at = contents.length;
    }
  }
  return { wellFormed: true, global: global ?? 0, globalExplicit: global !== undefined, suboptions };
}

const NO_DATA = new Uint8Array();

/** The length byte counts the data only, and one less than there is (RFC 8547 §4.4). */
const dataLength = (lengthByte: number): number => (lengthByte & 0x1f) + 1;

/**
 * Writes the contents of a SYN-form ENO option. The global suboption comes first and is left out when it is 0;
 * data of the last suboption goes without length byte, which saves one (RFC 8547 §4.4).
 *
 * @throws ERR_TCPCRYPT_ARGUMENT for what the format cannot express, or more than 38 bytes.
 */
export function encodeEnoContents(eno: EnoContents): Uint8Array {
  const bytes = new Uint8Array(MAX_ENO_CONTENTS);
  let length = 0;
  const put = (byte: number): void => {
    if (length === MAX_ENO_CONTENTS) throw invalid('more than 38 bytes of contents');
    bytes[length++] = byte;
  };
  if (eno.global > LAST_GLOBAL) throw invalid('global suboption above 0x1f');
  if (eno.global !== 0) put(eno.global);
  eno.suboptions.forEach(({ tep, v, data }, index) => {
    if (tep <= LAST_GLOBAL || tep > LAST_TEP_WITHOUT_DATA) throw invalid('TEP outside 0x20 to 0x7f');
    if (!v) {
      if (data.length > 0) throw invalid('data without v=1');
      put(tep);
      return;
    }
    const last = index === eno.suboptions.length - 1;
    if (!last) {
      if (data.length < 1 || data.length > MAX_SUBOPTION_DATA)
        throw invalid('only the last suboption may have no data, or more than 32 bytes');
      put(FLAG_V | (data.length - 1)); // ENO-11
    }
    put(tep | FLAG_V);
    for (let i = 0; i < data.length; i++) put(data[i] ?? 0);
  });
  return bytes.slice(0, length);
}

/** The whole TCP option: kind 69, length, contents. This is what the negotiation transcript is made of (RFC 8547 §4.8). */
export function enoOption(contents: Uint8Array): Uint8Array {
  if (contents.length > MAX_ENO_CONTENTS) throw invalid('more than 38 bytes of contents');
  const option = new Uint8Array(2 + contents.length);
  option[0] = TCP_OPTION_ENO;
  option[1] = option.length;
  option.set(contents, 2);
  return option;
}

const invalid = (detail: string): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `ENO option: ${detail}` });
