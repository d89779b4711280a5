/**
 * X25519 and X448 through OpenSSL's own functions: a key pair 45 µs, an agreement 45 µs, nearly all of it arithmetic.
 * node:crypto, the twin, needs 75 and 60, and frees a private key only when it is collected.
 */
import { createPrivateKey, createPublicKey, diffieHellman, randomBytes } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import type { KeyPair } from './key-agreement.js';
import { type OpenSsl, openSsl, succeeded } from './openssl.js';

type Curve = 'X25519' | 'X448';

/** EVP_PKEY_X25519 and EVP_PKEY_X448; the length of private and public keys and of the secret (RFC 7748 §5). */
const CURVES = { X25519: { type: 1034, length: 32 }, X448: { type: 1035, length: 56 } } as const;
const MAX_LENGTH = 56;

export interface EvpKeyPairs {
  generate(): KeyPair;
  /** A known private key: for tests. */
  import(privateKey: Uint8Array): KeyPair;
}

const working = new Map<Curve, EvpKeyPairs | undefined>();

/** The fast implementation of a curve; undefined where this process has none. */
export function evpKeyPairs(curve: Curve): EvpKeyPairs | undefined {
  if (!working.has(curve)) working.set(curve, tested(curve));
  return working.get(curve);
}

/** What all keys of this thread share: nothing here outlives a call. */
interface Workshop {
  readonly openSsl: OpenSsl;
  readonly bytes: Uint8Array;
  readonly bytesAt: number;
  /** A size_t. */
  readonly length: Uint32Array;
  readonly lengthAt: number;
  /** Keys that were never erased. */
  readonly forgotten: FinalizationRegistry<number>;
}

function workshopOf(openSsl: OpenSsl): Workshop {
  const bytes = new Uint8Array(MAX_LENGTH + 16);
  const length = new Uint32Array(bytes.buffer, MAX_LENGTH, 2);
  const bytesAt = openSsl.addressOf(bytes);
  const forgotten = new FinalizationRegistry<number>((key) => openSsl.freeKey(key));
  return { openSsl, bytes, bytesAt, length, lengthAt: bytesAt + MAX_LENGTH, forgotten };
}

class EvpKeyPair implements KeyPair {
  readonly curve: Curve;
  readonly publicKey: Uint8Array;
  readonly #shop: Workshop;
  #key: number;

  /** Takes the private key from the workshop's bytes. */
  constructor(curve: Curve, shop: Workshop) {
    const { openSsl, bytes, bytesAt, lengthAt } = shop;
    const { type, length } = CURVES[curve];
    this.curve = curve;
    this.#shop = shop;
    this.#key = openSsl.newPrivateKey(type, 0, bytesAt, length);
    bytes.fill(0);
    if (this.#key === 0) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
    shop.forgotten.register(this, this.#key, this);
    shop.length[0] = length;
    succeeded(openSsl.publicKey(this.#key, bytesAt, lengthAt));
    this.publicKey = bytes.slice(0, length);
  }

  agree(peerPublicKey: Uint8Array): Uint8Array {
    const { openSsl, bytes, bytesAt, lengthAt } = this.#shop;
    const { type, length } = CURVES[this.curve];
    if (this.#key === 0) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
    if (peerPublicKey.length !== length) throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY');
    bytes.set(peerPublicKey);
    const peer = openSsl.newPublicKey(type, 0, bytesAt, length);
    const context = openSsl.newKeyContext(this.#key, 0);
    this.#shop.length[0] = length;
    const agreed =
      peer !== 0 &&
      context !== 0 &&
      openSsl.initDerivation(context) === 1 &&
      openSsl.setPeer(context, peer) === 1 &&
      openSsl.derive(context, bytesAt, lengthAt) === 1;
    openSsl.freeKeyContext(context);
    openSsl.freeKey(peer);
    const secret = bytes.slice(0, length);
    bytes.fill(0);
    // OpenSSL 3 refuses the all-zero secret itself; that is not promised anywhere (TC-12, RFC 7748 §6).
    if (!agreed || secret.every((byte) => byte === 0))
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY');
    return secret;
  }

  erase(): void {
    if (this.#key === 0) return;
    this.#shop.forgotten.unregister(this);
    this.#shop.openSsl.freeKey(this.#key);
    this.#key = 0;
  }
}

function tested(curve: Curve): EvpKeyPairs | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  try {
    const shop = workshopOf(functions);
    const pairs: EvpKeyPairs = {
      generate() {
        succeeded(functions.random(shop.bytesAt, CURVES[curve].length));
        return new EvpKeyPair(curve, shop);
      },
      import(privateKey) {
        if (privateKey.length !== CURVES[curve].length) throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT');
        shop.bytes.set(privateKey);
        return new EvpKeyPair(curve, shop);
      },
    };
    return agreesWithNode(curve, pairs) ? pairs : undefined;
  } catch {
    return undefined;
  }
}

/** Before first use: the same public key and secret as node:crypto's. */
function agreesWithNode(curve: Curve, pairs: EvpKeyPairs): boolean {
  const jwk = (fields: object) => ({ key: { kty: 'OKP', crv: curve, ...fields }, format: 'jwk' }) as const;
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
  const bytes = randomBytes(CURVES[curve].length);
  const ours = pairs.import(bytes);
  const peer = pairs.generate();
  const privateKey = createPrivateKey(jwk({ d: base64(bytes), x: '' }));
  const publicKey = createPublicKey(jwk({ x: base64(peer.publicKey) }));
  const secret = diffieHellman({ privateKey, publicKey });
  const x = createPublicKey(privateKey).export({ format: 'jwk' }).x;
  const agree = x === base64(ours.publicKey) && secret.equals(ours.agree(peer.publicKey));
  bytes.fill(0);
  ours.erase();
  peer.erase();
  return agree;
}
