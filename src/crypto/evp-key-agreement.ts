/**
 * X25519 and X448 through OpenSSL's own functions. X25519: a key pair 35 µs, of which 31 are arithmetic, and an agreement
 * 39, of which 35, and 36 from the second with the same pair on; node:crypto, the twin, needs twice as much, and frees a
 * private key only when it is collected.
 */
import { createPrivateKey, createPublicKey, diffieHellman, randomBytes } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import type { KeyPair } from './key-agreement.js';
import { forgetErrors, type OpenSsl, openSsl, succeeded } from './openssl.js';

type Curve = 'X25519' | 'X448';

/** EVP_PKEY_X25519 and EVP_PKEY_X448; the length of private and public keys and of the secret (RFC 7748 §5). */
const CURVES = { X25519: { type: 1034, length: 32 }, X448: { type: 1035, length: 56 } } as const;
const MAX_LENGTH = 56;
/** Of a pointer, and of a size_t. */
const WORD = 8;

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

/** What all keys of a curve share in this thread: no secret in it outlives a call. */
interface Workshop {
  readonly openSsl: OpenSsl;
  readonly curve: Curve;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly bytesAt: number;
  /** A size_t, and an EVP_PKEY *. */
  readonly words: BigUint64Array;
  readonly sizeAt: number;
  readonly pointerAt: number;
  /** EVP_PKEY_CTX *, ready to generate. */
  readonly generator: number;
  /** EVP_PKEY *, into which the peer's public key is put. */
  readonly peer: number;
  /** What pairs have that were never erased. */
  readonly forgotten: FinalizationRegistry<PrivateKey>;
}

/** What OpenSSL holds of a pair. */
interface PrivateKey {
  /** EVP_PKEY * */
  readonly key: number;
  /** EVP_PKEY_CTX * that agrees with it, kept for the next time: to make one is two look-ups of names; 0: none yet. */
  context: number;
}

/** OpenSSL erases a key with the last that refers to it. */
function free(openSsl: OpenSsl, { key, context }: PrivateKey): void {
  openSsl.freeKeyContext(context);
  openSsl.freeKey(key);
}

function workshopOf(openSsl: OpenSsl, curve: Curve): Workshop {
  const { type, length } = CURVES[curve];
  const bytes = new Uint8Array(MAX_LENGTH + 2 * WORD);
  const bytesAt = openSsl.addressOf(bytes);
  const generator = openSsl.newGeneratorContext(type, 0);
  succeeded(openSsl.initGeneration(generator));
  bytes[0] = 9; // any point will do
  const peer = openSsl.newPublicKey(type, 0, bytesAt, length);
  if (peer === 0) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
  return {
    openSsl,
    curve,
    length,
    bytes,
    bytesAt,
    words: new BigUint64Array(bytes.buffer, MAX_LENGTH, 2),
    sizeAt: bytesAt + MAX_LENGTH,
    pointerAt: bytesAt + MAX_LENGTH + WORD,
    generator,
    peer,
    forgotten: new FinalizationRegistry<PrivateKey>((key) => free(openSsl, key)),
  };
}

/** A new EVP_PKEY. */
function generated({ openSsl, generator, words, pointerAt }: Workshop): number {
  words[1] = 0n;
  succeeded(openSsl.generate(generator, pointerAt));
  return Number(words[1]);
}

class EvpKeyPair implements KeyPair {
  readonly publicKey: Uint8Array;
  readonly #shop: Workshop;
  #private: PrivateKey | undefined;

  /** Takes over `key`, an EVP_PKEY *. */
  constructor(shop: Workshop, key: number) {
    if (key === 0) throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
    this.#shop = shop;
    this.#private = { key, context: 0 };
    shop.forgotten.register(this, this.#private, this);
    shop.words[0] = BigInt(shop.length);
    succeeded(shop.openSsl.publicKey(key, shop.bytesAt, shop.sizeAt));
    this.publicKey = shop.bytes.slice(0, shop.length);
  }

  get curve(): Curve {
    return this.#shop.curve;
  }

  agree(peerPublicKey: Uint8Array): Uint8Array {
    const { openSsl, length, peer, bytes, bytesAt, words, sizeAt } = this.#shop;
    if (this.#private === undefined) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'key erased' });
    if (peerPublicKey.length !== length) throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY');
    bytes.set(peerPublicKey);
    succeeded(openSsl.setPublicKey(peer, bytesAt, length));
    const context = agreement(openSsl, this.#private);
    words[0] = BigInt(length);
    const agreed =
      // Every string of this length is a public key (RFC 7748 §5), so there is nothing to validate.
      openSsl.setPeer(context, peer, 0) === 1 && openSsl.derive(context, bytesAt, sizeAt) === 1;
    const secret = bytes.slice(0, length);
    bytes.fill(0);
    if (!agreed) forgetErrors();
    // OpenSSL 3 refuses the all-zero secret itself; that is not promised anywhere (TC-12, RFC 7748 §6).
    if (!agreed || secret.every((byte) => byte === 0))
      throw new TcpcryptError('ERR_TCPCRYPT_INIT_PUBLIC_KEY');
    return secret;
  }

  erase(): void {
    if (this.#private === undefined) return;
    this.#shop.forgotten.unregister(this);
    free(this.#shop.openSsl, this.#private);
    this.#private = undefined;
  }
}

/** @returns an EVP_PKEY_CTX * that can be told a peer */
function agreement(openSsl: OpenSsl, held: PrivateKey): number {
  if (held.context !== 0) return held.context;
  const context = openSsl.newKeyContext(held.key, 0);
  const ready = context === 0 ? 0 : openSsl.initDerivation(context);
  if (ready !== 1) openSsl.freeKeyContext(context);
  succeeded(ready);
  held.context = context;
  return context;
}

function tested(curve: Curve): EvpKeyPairs | undefined {
  const functions = openSsl();
  if (functions === undefined) return undefined;
  try {
    const shop = workshopOf(functions, curve);
    const pairs: EvpKeyPairs = {
      generate: () => new EvpKeyPair(shop, generated(shop)),
      import(privateKey) {
        const { type, length } = CURVES[curve];
        if (privateKey.length !== length) throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT');
        shop.bytes.set(privateKey);
        const key = functions.newPrivateKey(type, 0, shop.bytesAt, length);
        shop.bytes.fill(0);
        return new EvpKeyPair(shop, key);
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
  const first = ours.agree(peer.publicKey);
  const again = peer.agree(ours.publicKey); // and, in the same memory, with others in between
  const agree =
    x === base64(ours.publicKey) &&
    [first, again, ours.agree(peer.publicKey)].every((each) => secret.equals(each));
  bytes.fill(0);
  ours.erase();
  peer.erase();
  return agree;
}
