import {
  createECDH,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type ECDH,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import { evpKeyPairs } from './evp-key-agreement.js';

/** What keys are agreed upon with (RFC 8548 §5). */
export type Curve = 'P-256' | 'P-521' | 'X25519' | 'X448';

/** One end of an ephemeral key agreement. The private key never leaves it, and dies with it (TC-8). */
export interface KeyPair {
  readonly curve: Curve;
  /** NIST curves: compressed point, 33 or 67 bytes (TC-11); X25519, X448: the u-coordinate, 32 or 56 bytes. */
  readonly publicKey: Uint8Array;
  /**
   * ES, the shared secret: the big-endian x coordinate in the full length of the field, or the result of RFC 7748
   * (RFC 8548 §5). The caller erases it.
   *
   * @throws ERR_TCPCRYPT_INIT_PUBLIC_KEY for a key that is no point in the right form, or one that forces an
   *   all-zero secret (TC-9, TC-11, TC-12)
   */
  agree(peerPublicKey: Uint8Array): Uint8Array;
  /** Forgets the private key (TC-8); `agree` then throws ERR_TCPCRYPT_CLOSED. Idempotent. */
  erase(): void;
}

/** A fresh key pair. CPU time: X25519 35 µs, P-256 49, X448 181, P-521 2063. */
export function generateKeyPair(curve: Curve): KeyPair {
  switch (curve) {
    case 'X25519':
    case 'X448': {
      // Not generateKeyPairSync: to export a key that it made can deadlock in Node 20. The export holds the key's
      // lock while it allocates, and garbage collection then frees the generator, which wants the same lock.
      const fast = evpKeyPairs(curve);
      if (fast !== undefined) return fast.generate();
      const privateKey = randomBytes(MONTGOMERY_LENGTH[curve]);
      const pair = importKeyPair(curve, privateKey);
      privateKey.fill(0);
      return pair;
    }
    case 'P-256':
    case 'P-521': {
      const ecdh = createECDH(NIST[curve].name);
      ecdh.generateKeys();
      return new NistKeyPair(curve, ecdh);
    }
  }
}

/**
 * The key pair of a known private key: raw bytes before clamping (X25519, X448) or a big-endian
 * scalar (P-256, P-521).
 */
export function importKeyPair(curve: Curve, privateKey: Uint8Array): KeyPair {
  switch (curve) {
    case 'X25519':
    case 'X448': {
      // Node computes the public part itself; JWK demands only that the field is there.
      const jwk = { kty: 'OKP', crv: curve, d: Buffer.from(privateKey).toString('base64url'), x: '' };
      return new MontgomeryKeyPair(curve, createPrivateKey({ key: jwk, format: 'jwk' }));
    }
    case 'P-256':
    case 'P-521': {
      const ecdh = createECDH(NIST[curve].name);
      ecdh.setPrivateKey(privateKey);
      return new NistKeyPair(curve, ecdh);
    }
  }
}

/** Of private and public keys (RFC 7748 §5). */
const MONTGOMERY_LENGTH = { X25519: 32, X448: 56 } as const;

/** X25519 and X448 as RFC 7748 defines them. */
class MontgomeryKeyPair implements KeyPair {
  readonly curve: 'X25519' | 'X448';
  readonly publicKey: Uint8Array;
  #privateKey: KeyObject | undefined;

  constructor(curve: 'X25519' | 'X448', privateKey: KeyObject) {
    this.curve = curve;
    this.#privateKey = privateKey;
    this.publicKey = Buffer.from(createPublicKey(privateKey).export({ format: 'jwk' }).x ?? '', 'base64url');
  }

  agree(peerPublicKey: Uint8Array): Uint8Array {
    // As JWK, an import costs 6.5 µs; as SPKI, 94 µs.
    const jwk = { kty: 'OKP', crv: this.curve, x: Buffer.from(peerPublicKey).toString('base64url') };
    const privateKey = this.#privateKey;
    if (privateKey === undefined) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
    let secret: Uint8Array;
    try {
      const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
      secret = diffieHellman({ privateKey, publicKey });
    } catch (cause) {
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY', { cause });
    }
    // OpenSSL 3 refuses the all-zero secret itself; that is not promised anywhere (TC-12, RFC 7748 §6).
    if (secret.every((byte) => byte === 0)) throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY');
    return secret;
  }

  /** node:crypto frees and erases keys when they are collected. */
  erase(): void {
    this.#privateKey = undefined;
  }
}

const NIST = {
  'P-256': { name: 'prime256v1', pointLength: 33 },
  'P-521': { name: 'secp521r1', pointLength: 67 },
} as const;

/** ECSVDP-DH of IEEE 1363 on the NIST curves. Their cofactor is 1: every point but infinity has the right order. */
class NistKeyPair implements KeyPair {
  readonly curve: 'P-256' | 'P-521';
  readonly publicKey: Uint8Array;
  #ecdh: ECDH | undefined;

  constructor(curve: 'P-256' | 'P-521', ecdh: ECDH) {
    this.curve = curve;
    this.#ecdh = ecdh;
    this.publicKey = ecdh.getPublicKey(null, 'compressed');
  }

  agree(peerPublicKey: Uint8Array): Uint8Array {
    const [form] = peerPublicKey;
    const compressed = form === 0x02 || form === 0x03;
    if (!compressed || peerPublicKey.length !== NIST[this.curve].pointLength)
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY', { detail: 'not a compressed point' }); // TC-11
    const ecdh = this.#ecdh;
    if (ecdh === undefined) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
    try {
      return ecdh.computeSecret(peerPublicKey); // decompression finds x that are on no point
    } catch (cause) {
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY', { cause });
    }
  }

  /** Another private key, known to all, takes the place of ours, which OpenSSL clears: not only when it is collected. */
  erase(): void {
    this.#ecdh?.setPrivateKey(ONE);
    this.#ecdh = undefined;
  }
}

const ONE = Uint8Array.of(1);
