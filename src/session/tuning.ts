/** Values that we chose; the specification leaves them open. */
import type { AeadId, TepId } from '../wire/index.js';

/** The TEPs that are offered, and accepted, unless the application says otherwise; most preferred first. */
export const DEFAULT_TEPS: readonly TepId[] = [0x23];

/** The AEADs that are offered, and accepted, unless the application says otherwise; for role B, most preferred first. */
export const DEFAULT_CIPHERS: readonly AeadId[] = [0x0001];

/**
 * Most application data in one frame: the largest that clen allows (65535 - 16 tag - 1 flags). The cost of a frame
 * hardly depends on its size, so large ones are cheap; they adapt to what is written.
 */
export const MAX_FRAME_DATA = 65_518;

/** Writes that wait together are joined into one frame up to this size: copying costs less than one more frame. */
export const JOIN_WRITES_UP_TO = 4096;

/**
 * Bytes of TCP stream under one traffic key before the sender moves to the next one by itself. RFC 8548 §3.6 only
 * demands less than 2^64. With 2^36, 20-byte frames give 2^31.7 calls of the AEAD, and full ones 2^32 blocks:
 * below the limits where AES-GCM keeps a margin of 2^-57 (draft-irtf-cfrg-aead-limits).
 */
export const REKEY_AFTER_BYTES = 2 ** 36;
