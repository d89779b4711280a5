/**
 * OpenSSL's own functions, which the node executable exports, called through koffi: for what node:crypto can do
 * only with a new object per message. koffi is optional, and so is everything here: without it, or where a function
 * is missing, node:crypto does the work.
 *
 * Pointers are numbers: no platform of ours gives a process addresses of more than 53 bits, and a number costs half
 * of what a Uint8Array costs in a call. Whoever passes an address keeps the memory alive, and takes it from
 * {@link addressOf}: an ArrayBuffer stays where it is.
 */
import { createRequire } from 'node:module';
import { TcpcryptError } from '../errors.js';
import type { Memory } from './aead.js';

type Pointer = number;

/** The signatures are those of OpenSSL 3; results are 1 for success unless they are pointers. */
export interface OpenSsl {
  readonly newCipherContext: () => Pointer;
  /** Erases the key. */
  readonly freeCipherContext: (context: Pointer) => void;
  /** NULL, and -1 for `encrypt`, keep what is set already. */
  readonly initCipher: (
    context: Pointer,
    cipher: Pointer,
    engine: 0,
    key: Pointer,
    nonce: Pointer,
    encrypt: 1 | 0 | -1,
  ) => number;
  /** Output NULL: associated data. */
  readonly update: (
    context: Pointer,
    output: Pointer,
    written: Pointer,
    input: Pointer,
    length: number,
  ) => number;
  readonly updateFrom: (
    context: Pointer,
    output: Pointer,
    written: Pointer,
    input: Uint8Array,
    length: number,
  ) => number;
  /** Decryption: 1 only if the tag is right. */
  readonly final: (context: Pointer, output: Pointer, written: Pointer) => number;
  readonly control: (context: Pointer, command: number, argument: number, pointer: Pointer) => number;
  /** EVP_CIPHER of an algorithm, or NULL. */
  readonly cipher: (name: string) => Pointer;
  /** `state` is a SHA256_CTX. */
  readonly sha256Init: (state: Pointer) => number;
  readonly sha256Update: (state: Pointer, data: Pointer, length: number) => number;
  readonly sha256Final: (hash: Pointer, state: Pointer) => number;
  /** The compression function, on one block of 64 bytes; of `state` only the beginning, the hash so far, counts. */
  readonly sha256Block: (state: Pointer, block: Pointer) => void;
  /** For key pairs of an algorithm. */
  readonly newGeneratorContext: (type: number, engine: 0) => Pointer;
  readonly initGeneration: (context: Pointer) => number;
  /** `key` is an EVP_PKEY **; NULL in it makes a new one. */
  readonly generate: (context: Pointer, key: Pointer) => number;
  readonly newPrivateKey: (type: number, engine: 0, bytes: Pointer, length: number) => Pointer;
  readonly newPublicKey: (type: number, engine: 0, bytes: Pointer, length: number) => Pointer;
  /** Puts another public key, in the form of TLS, in the place of one. */
  readonly setPublicKey: (key: Pointer, bytes: Pointer, length: number) => number;
  /** `length` is a size_t: the room before, the length after. */
  readonly publicKey: (key: Pointer, output: Pointer, length: Pointer) => number;
  /** Erases a private key. */
  readonly freeKey: (key: Pointer) => void;
  readonly newKeyContext: (key: Pointer, engine: 0) => Pointer;
  readonly freeKeyContext: (context: Pointer) => void;
  readonly initDerivation: (context: Pointer) => number;
  readonly setPeer: (context: Pointer, key: Pointer, validate: 1 | 0) => number;
  readonly derive: (context: Pointer, output: Pointer, length: Pointer) => number;
  readonly clearErrors: () => void;
  readonly addressOf: (bytes: Uint8Array) => Pointer;
}

/** What we use of koffi. */
interface Koffi {
  load(library: null): { func(prototype: string): (...args: never[]) => unknown };
  address(bytes: Uint8Array): bigint;
}

let probed: { readonly openSsl: OpenSsl | undefined } | undefined;

/** The functions, or undefined where they cannot be had. They work, but test what you build of them before use. */
export function openSsl(): OpenSsl | undefined {
  probed ??= { openSsl: probe() };
  return probed.openSsl;
}

function probe(): OpenSsl | undefined {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const program = koffi.load(null);
    const bind = (prototype: string) => program.func(prototype);
    return {
      newCipherContext: bind('uintptr_t EVP_CIPHER_CTX_new()'),
      freeCipherContext: bind('void EVP_CIPHER_CTX_free(uintptr_t)'),
      initCipher: bind('int EVP_CipherInit_ex(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, int)'),
      update: bind('int EVP_CipherUpdate(uintptr_t, uintptr_t, uintptr_t, uintptr_t, int)'),
      updateFrom: bind('int EVP_CipherUpdate(uintptr_t, uintptr_t, uintptr_t, const void *, int)'),
      final: bind('int EVP_CipherFinal_ex(uintptr_t, uintptr_t, uintptr_t)'),
      control: bind('int EVP_CIPHER_CTX_ctrl(uintptr_t, int, int, uintptr_t)'),
      cipher: bind('uintptr_t EVP_get_cipherbyname(const char *)'),
      sha256Init: bind('int SHA256_Init(uintptr_t)'),
      sha256Update: bind('int SHA256_Update(uintptr_t, uintptr_t, size_t)'),
      sha256Final: bind('int SHA256_Final(uintptr_t, uintptr_t)'),
      sha256Block: bind('void SHA256_Transform(uintptr_t, uintptr_t)'),
      newGeneratorContext: bind('uintptr_t EVP_PKEY_CTX_new_id(int, uintptr_t)'),
      initGeneration: bind('int EVP_PKEY_keygen_init(uintptr_t)'),
      generate: bind('int EVP_PKEY_keygen(uintptr_t, uintptr_t)'),
      newPrivateKey: bind('uintptr_t EVP_PKEY_new_raw_private_key(int, uintptr_t, uintptr_t, size_t)'),
      newPublicKey: bind('uintptr_t EVP_PKEY_new_raw_public_key(int, uintptr_t, uintptr_t, size_t)'),
      setPublicKey: bind('int EVP_PKEY_set1_encoded_public_key(uintptr_t, uintptr_t, size_t)'),
      publicKey: bind('int EVP_PKEY_get_raw_public_key(uintptr_t, uintptr_t, uintptr_t)'),
      freeKey: bind('void EVP_PKEY_free(uintptr_t)'),
      newKeyContext: bind('uintptr_t EVP_PKEY_CTX_new(uintptr_t, uintptr_t)'),
      freeKeyContext: bind('void EVP_PKEY_CTX_free(uintptr_t)'),
      initDerivation: bind('int EVP_PKEY_derive_init(uintptr_t)'),
      setPeer: bind('int EVP_PKEY_derive_set_peer_ex(uintptr_t, uintptr_t, int)'),
      derive: bind('int EVP_PKEY_derive(uintptr_t, uintptr_t, uintptr_t)'),
      clearErrors: bind('void ERR_clear_error()'),
      addressOf: (bytes: Uint8Array) => Number(koffi.address(bytes)),
    } as OpenSsl;
  } catch {
    return undefined;
  }
}

/** `bytes`, and where they are; 0 in a process where nobody asks. */
export const memoryOf = (bytes: Uint8Array): Memory => ({
  bytes,
  address: openSsl()?.addressOf(bytes) ?? 0,
});

/**
 * To be called where a function has failed: it leaves its reasons in a queue of this thread, and node:tls takes what is
 * there for the failure of whichever connection it looks at next.
 */
export function forgetErrors(): void {
  openSsl()?.clearErrors();
}

/** @throws ERR_TCPCRYPT_CRYPTO unless OpenSSL reported success */
export function succeeded(result: number): void {
  if (result === 1) return;
  forgetErrors();
  throw new TcpcryptError('ERR_TCPCRYPT_CRYPTO');
}
