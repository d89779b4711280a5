/**
 * SPAKE2+, the augmented password-authenticated key exchange (RFC 9383), suite P256-SHA256-HKDF-SHA256-HMAC-SHA256.
 * No message, no session: those are `password.ts`.
 */
import { createHmac, hash, randomBytes } from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import { cprf, extract } from '../crypto/hkdf.js';
import { TcpcryptError } from '../errors.js';

const { Point } = p256;
type Point = InstanceType<typeof Point>;

/** RFC 9383 §4. */
const M = Point.fromHex('02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f');
const N = Point.fromHex('03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49');
const ORDER = Point.Fn.ORDER;

/** Uncompressed point (SEC 1 §2.3.3). */
export const SHARE_LENGTH = 65;
export const CONFIRMATION_LENGTH = 32;
/** RFC 9383 §3.2: ceil(log2(p)) + 64 bits for each of w0s, w1s. */
export const STRETCHED_LENGTH = 80;

/** w0, w1: what the password becomes; big endian, 32 bytes each. */
export interface ProverSecrets {
  readonly w0: bigint;
  readonly w1: bigint;
}
/** w0, L = w1·P: enough to check a password, not enough to use it. */
export interface Verifier {
  readonly w0: bigint;
  readonly L: Point;
}

/** Of the public values that both ends must agree about. */
export interface Identities {
  readonly context: Uint8Array;
  readonly idProver: Uint8Array;
  readonly idVerifier: Uint8Array;
}

/** len(x) | x, with the length in 8 bytes, little endian (RFC 9383 §3.3). */
export function withLength(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
}

const toBigInt = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
const scalarBytes = (scalar: bigint): Buffer => Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex');
const encode = (point: Point): Buffer => Buffer.from(point.toBytes(false));

/** w0s | w1s, the output of the password hash, to w0, w1 (RFC 9383 §3.2). */
export function proverSecrets(stretched: Uint8Array): ProverSecrets {
  const half = STRETCHED_LENGTH / 2;
  return {
    w0: toBigInt(stretched.subarray(0, half)) % ORDER,
    w1: toBigInt(stretched.subarray(half, STRETCHED_LENGTH)) % ORDER,
  };
}

export const verifierOf = ({ w0, w1 }: ProverSecrets): Verifier => ({ w0, L: Point.BASE.multiply(w1) });
export const encodeVerifier = ({ w0, L }: Verifier): Buffer => Buffer.concat([scalarBytes(w0), encode(L)]);

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function decodeVerifier(bytes: Uint8Array): Verifier {
  try {
    const w0 = toBigInt(bytes.subarray(0, 32));
    const L = Point.fromBytes(bytes.subarray(32));
    L.assertValidity();
    return { w0, L };
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'SPAKE2+ verifier', cause });
  }
}

/** Uniform between 1 and the order less one. */
export function randomScalar(): bigint {
  for (;;) {
    const scalar = toBigInt(randomBytes(48)) % ORDER;
    if (scalar !== 0n) return scalar;
  }
}

/** X = x·P + w0·M */
export const proverShare = (x: bigint, w0: bigint): Buffer =>
  encode(Point.BASE.multiply(x).add(M.multiply(w0)));
/** Y = y·P + w0·N */
export const verifierShare = (y: bigint, w0: bigint): Buffer =>
  encode(Point.BASE.multiply(y).add(N.multiply(w0)));

/** Z = x·(Y - w0·N), V = w1·(Y - w0·N); the cofactor is 1. @throws ERR_TCPCRYPT_AUTH_SHARE */
export function proverKeys(
  identities: Identities,
  { w0, w1 }: ProverSecrets,
  x: bigint,
  shareP: Uint8Array,
  shareV: Uint8Array,
): Keys {
  const base = unblinded(shareV, N.multiply(w0));
  return keySchedule(identities, w0, shareP, shareV, base.multiply(x), base.multiply(w1));
}

/** Z = y·(X - w0·M), V = y·L @throws ERR_TCPCRYPT_AUTH_SHARE */
export function verifierKeys(
  identities: Identities,
  { w0, L }: Verifier,
  y: bigint,
  shareP: Uint8Array,
  shareV: Uint8Array,
): Keys {
  const base = unblinded(shareP, M.multiply(w0));
  return keySchedule(identities, w0, shareP, shareV, base.multiply(y), L.multiply(y));
}

/** The share of the peer, checked (RFC 9383 §3.3: on the curve, not the neutral element), less its blinding. */
function unblinded(share: Uint8Array, blinding: Point): Point {
  let point: Point;
  try {
    if (share.length !== SHARE_LENGTH || share[0] !== 4) throw new RangeError('encoding');
    point = Point.fromBytes(share);
    point.assertValidity();
    point = point.subtract(blinding);
    if (point.is0()) throw new RangeError('neutral element');
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_SHARE', { cause });
  }
  return point;
}

export interface Keys {
  readonly main: Buffer;
  readonly confirmP: Buffer;
  readonly confirmV: Buffer;
  readonly shared: Buffer;
}

/** RFC 9383 §3.3, §3.4. */
function keySchedule(
  { context, idProver, idVerifier }: Identities,
  w0: bigint,
  shareP: Uint8Array,
  shareV: Uint8Array,
  Z: Point,
  V: Point,
): Keys {
  const parts = [context, idProver, idVerifier, encode(M), encode(N), shareP, shareV];
  const transcript = Buffer.concat([...parts, encode(Z), encode(V), scalarBytes(w0)].map(withLength));
  const main = hash('sha256', transcript, 'buffer');
  const derive = (info: string, length: number): Buffer =>
    Buffer.from(cprf(extract(new Uint8Array(32), [main]), [Buffer.from(info)], length));
  const confirmations = derive('ConfirmationKeys', 64);
  return {
    main,
    confirmP: createHmac('sha256', confirmations.subarray(0, 32)).update(shareV).digest(),
    confirmV: createHmac('sha256', confirmations.subarray(32)).update(shareP).digest(),
    shared: derive('SharedKey', 32),
  };
}
