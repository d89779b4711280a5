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
export function encodeFrameHeader({ rekey, clen }: FrameHeader, into = new Uint8Array(3)): Uint8Array {
  into[0] = rekey ? CONTROL_REKEY : 0;
  into[1] = clen >>> 8;
  into[2] = clen & 0xff;
  return into;
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

/** What stands before the data in the plaintext of a frame (RFC 8548 §4.2.1). */
export interface PlaintextHead {
  /** FINp: the stream of this direction ends with this frame. */
  readonly fin: boolean;
  /** URGp: the urgent field, if there is one. */
  readonly urgent: number | undefined;
  /** How many bytes of the plaintext it takes. */
  readonly length: number;
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
 * Of the plaintext that `bytes` hold from `from` to `to`.
 *
 * @throws ERR_TCPCRYPT_FRAME_PLAINTEXT: no flags, or URGp without its field
 */
export function decodePlaintextHead(bytes: Uint8Array, from = 0, to = bytes.length): PlaintextHead {
  const flags = bytes[from];
  const length = flags !== undefined && (flags & FLAG_URGP) !== 0 ? 3 : 1;
  if (flags === undefined || from + length > to) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_PLAINTEXT');
  const urgent = length === 3 ? ((bytes[from + 1] ?? 0) << 8) | (bytes[from + 2] ?? 0) : undefined;
  return { fin: (flags & FLAG_FINP) !== 0, urgent, length };
}
