/** Which signature goes with which key. Numbers are those of TLS 1.3 (RFC 8446 §4.2.3). */
import { constants, type KeyObject, type SignKeyObjectInput, sign, verify } from 'node:crypto';
import { TcpcryptError } from '../errors.js';

interface Scheme {
  readonly number: number;
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null;
  readonly rsa: boolean;
}

const RSA_MIN_BITS = 2048;
const RSA_PSS_RSAE_SHA256: Scheme = { number: 0x0804, hash: 'sha256', rsa: true };
const ED25519: Scheme = { number: 0x0807, hash: null, rsa: false };
const ECDSA: Readonly<Record<string, Scheme>> = {
  prime256v1: { number: 0x0403, hash: 'sha256', rsa: false },
  secp384r1: { number: 0x0503, hash: 'sha384', rsa: false },
  secp521r1: { number: 0x0603, hash: 'sha512', rsa: false },
};

/** The one scheme that we use with a key; undefined when the key is too weak or of another kind. */
export function schemeOf(key: KeyObject): Scheme | undefined {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return (modulusLength ?? 0) >= RSA_MIN_BITS ? RSA_PSS_RSAE_SHA256 : undefined;
    case 'ec':
      return ECDSA[namedCurve ?? ''];
    case 'ed25519':
      return ED25519;
    default:
      return undefined;
  }
}

/** On a thread of libuv's pool, not on the event loop. @throws ERR_TCPCRYPT_ARGUMENT */
export function signAsync(key: KeyObject, data: Buffer): Promise<Buffer> {
  const scheme = schemeOf(key);
  if (scheme === undefined) {
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'no signature scheme for this key' });
  }
  return new Promise((resolve, reject) => {
    sign(scheme.hash, data, input(key, scheme), (error, signature) => {
      if (error === null || error === undefined) resolve(signature);
      else reject(error);
    });
  });
}

export function verifySignature(key: KeyObject, scheme: number, data: Buffer, signature: Buffer): boolean {
  const expected = schemeOf(key);
  if (expected?.number !== scheme) return false;
  return verify(expected.hash, data, input(key, expected), signature);
}

const input = (key: KeyObject, { rsa }: Scheme): SignKeyObjectInput =>
  rsa
    ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : { key };
