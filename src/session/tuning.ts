/** Values that we chose; the specification leaves them open. */
import { TAG_LENGTH } from '../crypto/index.js';
import { type AeadId, MAX_CLEN, type TepId } from '../wire/index.js';

/**
 * The TEPs that are offered, and accepted, unless the application says otherwise; most preferred first. P-521 costs
 * milliseconds, which a peer could make us spend.
 */
export const DEFAULT_TEPS: readonly TepId[] = [0x23, 0x24, 0x21];

/** The AEADs that are offered, and accepted, unless the application says otherwise; for role B, most preferred first. */
export const DEFAULT_CIPHERS: readonly AeadId[] = [0x0001, 0x0002, 0x0010];

/**
 * Most application data in one frame: the largest that clen allows (65535 - 16 tag - 1 flags = 65518). The cost of a frame
 * hardly depends on its size, so large ones are cheap; they adapt to what is written.
 */
export const MAX_FRAME_DATA = MAX_CLEN - TAG_LENGTH - 1;

/**
 * Bytes of contents of an ENO option that find room in a SYN next to MSS, window scale, SACK and timestamps (20 of the
 * 40 bytes of options).
 */
export const SYN_CONTENTS = 18;

/**
 * How many sessions of a chain a passive opener recognises: the peer may have lost some attempts, i.e. SYNs that
 * never arrived. The independent implementation looks ahead up to 8; each one costs two HMACs.
 */
export const LOOK_AHEAD = 4;

/** Chains of sessions that a cache keeps, in all and per peer; the oldest make room. */
export const CACHE_LIMIT = 4096;
export const CACHE_LIMIT_PER_PEER = 64;

/**
 * Milliseconds from a key exchange until the chain that began with it is erased: who gets hold of a cached secret can
 * read what later connections of its chain say, so now and then there must be a new key exchange.
 */
export const CACHE_LIFETIME = 3_600_000;

/** Milliseconds in which a connection whose SYN took a session must be accepted; TCP gives up earlier. */
export const PROMISE_LIFETIME = 180_000;

/** Writes that wait together are joined into one frame up to this size: copying costs less than one more frame. */
export const JOIN_WRITES_UP_TO = 4096;

/** Frames are sealed into one piece of memory, for one write, until they hold so many bytes of data. */
export const SEAL_AT_ONCE = 4 * MAX_FRAME_DATA;

/**
 * Frames without data that are sealed at once. A peer can ask for one with 21 bytes (RFC 8548 §3.8); who gets along with
 * the answers asks for one after the other.
 */
export const ANSWERS_AT_ONCE = 256;

/**
 * Data of so many frames share a piece of memory. From 128 KB on the C library may get each piece anew from the operating
 * system, and each of its pages is a fault then.
 */
export const PLAINTEXT_AT_ONCE = 120_000;

/**
 * Bytes of TCP stream under one traffic key before the sender moves to the next one by itself. RFC 8548 §3.6 only
 * demands less than 2^64. With 2^36, 20-byte frames give 2^31.7 calls of the AEAD, and full ones 2^32 blocks:
 * below the limits where AES-GCM keeps a margin of 2^-57 (draft-irtf-cfrg-aead-limits).
 */
export const REKEY_AFTER_BYTES = 2 ** 36;
