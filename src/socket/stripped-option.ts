import type { ErrorCode } from '../errors.js';
import { INIT1_MAGIC } from '../session/index.js';

/**
 * Whether the peer of a connection that is plain to us encrypts, by the first bytes that it sent.
 *
 * Without ENO on its first ACK segment we must go on in plaintext (RFC 8547 §4.6), but if the option was removed on the
 * way, the peer does not know: what it sends is no application data. The same if the kernel part was unloaded after a
 * handshake, before we asked for its outcome.
 */
export const peerEncrypts = (plainReason: ErrorCode | undefined, firstChunk: Uint8Array): boolean =>
  (plainReason === 'ERR_TCPCRYPT_ENO_NO_ACK' || plainReason === 'ERR_TCPCRYPT_KERNEL_ABSENT') &&
  firstChunk.length >= 4 &&
  Buffer.from(firstChunk.buffer, firstChunk.byteOffset, 4).readUInt32BE() === INIT1_MAGIC;
