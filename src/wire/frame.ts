import { TcpcryptError } from '../errors.js';
import { CONTROL_REKEY, FLAG_FINP, FLAG_URGP, FRAME_HEADER_LENGTH } from './constants.js';

/** The part of a frame that travels in clear (RFC 8548 §4.2). */
export interface FrameHeader {
  /** This frame is the first of a new key generation, and already encrypted with it. */
  readonly rekey: boolean;
  /** Length of the ciphertext with its tag. */
  readonly clen: number;
}

/**
 *     0         1      3
 *     +---------+------+-----------------+
 *     | control | clen | ciphertext, tag |      control: bit 0 rekey, bits 7..1 reserved
 *     +---------+------+-----------------+
 *
 * The same three bytes are the AEAD's associated data. Reserved bits are sent as 0 (TC-34).
 */
export function encodeFrameHeader({ rekey, clen }: FrameHeader): Uint8Array {
  return Uint8Array.of(rekey ? CONTROL_REKEY : 0, clen >>> 8, clen & 0xff);
}

/** Reserved bits are ignored (TC-34); they are still authenticated, so keep the bytes as received. */
export function decodeFrameHeader(header: Uint8Array): FrameHeader {
  const control = header[0];
  const high = header[1];
  const low = header[2];
  if (control === undefined || high === undefined || low === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_FRAME_LENGTH', {
      detail: `a header has ${FRAME_HEADER_LENGTH} bytes`,
    });
  return { rekey: (control & CONTROL_REKEY) !== 0, clen: (high << 8) | low };
}

/** The decrypted contents of a frame (RFC 8548 §4.2.1). */
export interface FramePlaintext {
  /** FINp: the stream of this direction ends with this frame. */
  readonly fin: boolean;
  /** URGp: the urgent field, if there is one. */
  readonly urgent: number | undefined;
  /** Application data, in pieces, none of them empty. */
  readonly data: readonly Uint8Array[];
}

/**
 * What stands before the data in a plaintext.
 *
 *     0       1            1 or 3
 *     +-------+------------+------+
 *     | flags | urgent (2) | data |      flags: bit 0 FINp, bit 1 URGp (urgent present), bits 7..2 reserved
 *     +-------+------------+------+
 */
export function encodePlaintextHead(fin: boolean, urgent?: number): Uint8Array {
  const flags = fin ? FLAG_FINP : 0;
  if (urgent === undefined) return Uint8Array.of(flags);
  return Uint8Array.of(flags | FLAG_URGP, urgent >>> 8, urgent & 0xff);
}

/**
 * Reads a plaintext that may come in pieces; the data are views of them.
 *
 * @throws ERR_TCPCRYPT_FRAME_PLAINTEXT: no flags, or URGp without its field
 */
export function decodePlaintext(pieces: readonly Uint8Array[]): FramePlaintext {
  const data: Uint8Array[] = [];
  let flags: number | undefined;
  let urgent = 0;
  let urgentLeft = 0;
  for (const piece of pieces) {
    let at = 0;
    if (flags === undefined) {
      flags = piece[at++];
      if (flags === undefined) continue;
      urgentLeft = (flags & FLAG_URGP) !== 0 ? 2 : 0;
    }
    for (; urgentLeft > 0 && at < piece.length; urgentLeft--) urgent = (urgent << 8) | (piece[at++] ?? 0);
    if (at < piece.length) data.push(piece.subarray(at));
  }
  if (flags === undefined || urgentLeft > 0) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_PLAINTEXT');
  return {
    fin: (flags & FLAG_FINP) !== 0,
    urgent: (flags & FLAG_URGP) !== 0 ? urgent : undefined,
    data,
  };
}
