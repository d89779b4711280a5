/**
 * Mechanism `known-key`: an end signs with its raw Ed25519 host key, the other end knows the key, or remembers it.
 *
 *     PROOF:  public key (32 bytes) | Ed25519 signature (64 bytes) over label and binding
 */
import { createPrivateKey, createPublicKey, hash, type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { TcpcryptError } from '../errors.js';
import { prefixed } from './bytes.js';
import { check } from './check.js';
import type { Mechanism } from './mechanism.js';

const KEY_LENGTH = 32;
const SIGNATURE_LENGTH = 64;
/** SubjectPublicKeyInfo of an Ed25519 key, up to the key itself (RFC 8410 §4). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const SIGNED = prefixed('tcpcrypt-auth/1 known-key signature');

/** Decides about the key of a peer that has proved to hold it. */
export interface KeyTrust {
  /**
   * @param key raw Ed25519 public key, 32 bytes
   * @param remoteAddress of the peer, where it is known
   * @returns the peer's name
   * @throws ERR_TCPCRYPT_AUTH_KEY_UNKNOWN, ERR_TCPCRYPT_AUTH_KEY_CHANGED, ERR_TCPCRYPT_AUTH_KNOWN_HOSTS
   */
  check(key: Buffer, remoteAddress?: string): string | Promise<string>;
}

/** Options of {@link knownKey}: what we prove with, and whom we believe. */
export interface KnownKeyOptions {
  /** Our own Ed25519 private key; without it we prove nothing. */
  readonly key?: KeyObject | string;
  /** {@link pinnedKeys} or {@link knownHosts}; without it we check nothing. */
  readonly trust?: KeyTrust;
}

const signAsync = promisify(sign) as (algorithm: null, data: Buffer, key: KeyObject) => Promise<Buffer>;

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function knownKey({ key, trust }: KnownKeyOptions): Mechanism {
  check(key !== undefined || trust !== undefined, 'knownKey: neither key nor trust');
  const privateKey = typeof key === 'string' ? createPrivateKey(key) : key;
  check(
    privateKey === undefined || (privateKey.type === 'private' && privateKey.asymmetricKeyType === 'ed25519'),
    'knownKey: not an Ed25519 private key',
  );
  const publicKey = privateKey && rawPublicKey(privateKey);
  return {
    name: 'known-key',
    canProve: privateKey !== undefined,
    canVerify: trust !== undefined,
    hint: new Uint8Array(),
    async run({ role, proving, verifying, binding, send, receive, remoteAddress }) {
      if (proving && privateKey !== undefined && publicKey !== undefined) {
        const signature = await signAsync(null, Buffer.concat([SIGNED, binding(role)]), privateKey);
        send(Buffer.concat([publicKey, signature]));
      }
      if (!verifying || trust === undefined) return undefined;
      const proof = await receive(KEY_LENGTH + SIGNATURE_LENGTH);
      const raw = Buffer.from(proof.subarray(0, KEY_LENGTH));
      const signed = Buffer.concat([SIGNED, binding(role === 'A' ? 'B' : 'A')]);
      if (
        proof.length !== KEY_LENGTH + SIGNATURE_LENGTH ||
        !verify(null, signed, publicKeyOf(raw), proof.subarray(KEY_LENGTH))
      ) {
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
      }
      // Only now: nobody may put a key that is not his into the file of known hosts.
      const name = await trust.check(raw, remoteAddress);
      return { mechanism: 'known-key', name, key: raw };
    },
  };
}

/** Trusts these keys only. Names are what `peer.name` will be. @throws ERR_TCPCRYPT_ARGUMENT */
export function pinnedKeys(keys: Readonly<Record<string, Uint8Array | KeyObject>>): KeyTrust {
  const names = new Map(
    Object.entries(keys).map(([name, key]) => {
      const raw = key instanceof Uint8Array ? Buffer.from(key) : rawPublicKey(key);
      check(raw.length === KEY_LENGTH, `pinnedKeys: the key of ${name} has ${raw.length} bytes`);
      return [raw.toString('hex'), name];
    }),
  );
  return {
    check(key) {
      const name = names.get(key.toString('hex'));
      if (name === undefined) {
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_KEY_UNKNOWN', { detail: fingerprint(key) });
      }
      return name;
    },
  };
}

/** The 32 bytes of an Ed25519 public key, or of the public half of a private one. @throws ERR_TCPCRYPT_ARGUMENT */
export function rawPublicKey(key: KeyObject | string): Buffer {
  const publicKey = typeof key === 'string' || key.type === 'private' ? createPublicKey(key) : key;
  check(publicKey.asymmetricKeyType === 'ed25519', 'not an Ed25519 key');
  return Buffer.from(publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_PREFIX.length));
}

const publicKeyOf = (raw: Buffer): KeyObject =>
  createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw]), format: 'der', type: 'spki' });

/** What people compare: "SHA256:" and base64, as OpenSSH writes it. */
export const fingerprint = (key: Uint8Array): string =>
  `SHA256:${hash('sha256', key, 'base64').replace(/=+$/, '')}`;
