/**
 * CPace, the balanced password-authenticated key exchange (draft-irtf-cfrg-cpace-21), suite
 * CPACE-RISTR255-SHA512, in the initiator-responder setting. No message, no session: those are `password.ts`.
 */
import { createHash, randomBytes } from 'node:crypto';
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js';
import { TcpcryptError } from '../errors.js';

const { Point } = ristretto255;
/** An element of the group. */
export interface Element {
  multiply(scalar: bigint): Element;
  toBytes(): Uint8Array;
}

const DSI = Buffer.from('CPaceRistretto255');
const DSI_ISK = Buffer.from('CPaceRistretto255_ISK');
/** H.s_in_bytes of SHA-512. */
const BLOCK_LENGTH = 128;
export const SHARE_LENGTH = 32;

const sha512 = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** prepend_len (§6.3): LEB128. */
function prependLength(bytes: Uint8Array): Buffer {
  const encoded: number[] = [];
  let length = bytes.length;
  do {
    const low = length & 0x7f;
    length >>= 7;
    encoded.push(length === 0 ? low : low | 0x80);
  } while (length > 0);
  return Buffer.concat([Buffer.from(encoded), bytes]);
}

/** lv_cat (§6.3). */
export const lvCat = (...parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts.map(prependLength));

/** generator_string (§8.1): DSI and PRS fill the first block of the hash, whatever the length of the password. */
export function generatorString(prs: Uint8Array, ci: Uint8Array, sid: Uint8Array): Buffer {
  const padding = Math.max(0, BLOCK_LENGTH - 1 - prependLength(prs).length - prependLength(DSI).length);
  return lvCat(DSI, prs, Buffer.alloc(padding), ci, sid);
}

/** calculate_generator (§8.3). */
export function generator(prs: Uint8Array, ci: Uint8Array, sid: Uint8Array): Element {
  const derive = ristretto255_hasher.deriveToCurve;
  if (derive === undefined) throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'ristretto255' });
  return derive(sha512(generatorString(prs, ci, sid)));
}

/** sample_scalar (§8.3): uniform between 1 and the order less one. */
export function sampleScalar(): bigint {
  for (;;) {
    const scalar = decodeScalar(randomBytes(64)) % Point.Fn.ORDER;
    if (scalar !== 0n) return scalar;
  }
}

/** Little endian. */
export const decodeScalar = (bytes: Uint8Array): bigint =>
  BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);

/** scalar_mult: our public share. */
export const shareOf = (scalar: bigint, base: Element): Buffer =>
  Buffer.from(base.multiply(scalar).toBytes());

/**
 * scalar_mult_vfy: K.
 * @throws ERR_TCPCRYPT_AUTH_SHARE when the share is no group element, or the neutral one
 */
export function secretOf(scalar: bigint, share: Uint8Array): Buffer {
  let point: ReturnType<typeof Point.fromBytes>;
  try {
    point = Point.fromBytes(share);
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_SHARE', { cause });
  }
  if (point.is0()) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_SHARE');
  return Buffer.from(point.multiply(scalar).toBytes());
}

export interface Message {
  readonly share: Uint8Array;
  readonly data: Uint8Array;
}

/** ISK (§7.2), with transcript_ir: `initiator` spoke first. 64 bytes. */
export const sessionKey = (
  sid: Uint8Array,
  secret: Uint8Array,
  initiator: Message,
  responder: Message,
): Buffer =>
  sha512(
    lvCat(DSI_ISK, sid, secret),
    lvCat(initiator.share, initiator.data),
    lvCat(responder.share, responder.data),
  );
