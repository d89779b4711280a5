/**
 * Mechanism `certificate`: an end proves that it holds the key of an X.509 certificate. One signature covers all
 * connections that wait for one ({@link BatchSigner}).
 *
 *     PROOF:  scheme u16
 *             count u8, and so many certificates: length u24, DER     the peer's own first
 *             blind (32 bytes) | index u32 | size u32 | depth u8, and so many hashes of 32 bytes
 *             signature, to the end
 */
import { hash, type KeyObject, X509Certificate } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import { type BatchProof, BatchSigner, type BatchSignerOptions, signedContent } from './batch-signer.js';
import { malformed, prefixed, Reader, u8, u16, u24, u32 } from './bytes.js';
import { Anchors, type Authorities, CHAIN_LIMIT, certificatesOf, verifyChain } from './certificate-chain.js';
import { check } from './check.js';
import type { Exchange, Mechanism } from './mechanism.js';
import { BLIND_LENGTH, HASH_LENGTH, leafOf, PATH_LIMIT, rootOf } from './merkle.js';
import { verifySignature } from './signature-scheme.js';

/** Options of {@link certificate}: what we prove with, and how we judge. */
export interface CertificateOptions {
  /**
   * Our own key, or a signer, which may be shared by all connections of a process. Without it we prove nothing.
   * A mechanism made of `key` has a signer of its own: make one mechanism, and use it for all connections.
   */
  readonly key?: BatchSignerOptions['key'] | BatchSigner;
  /** Our certificate and the intermediate ones, PEM; with `key` only. */
  readonly chain?: string;
  /** How the peer's certificate is judged; without it we check nothing. */
  readonly trust?: CertificateTrust;
}

/** How the peer's certificate is judged. */
export interface CertificateTrust {
  /** CAs; default: those of the system. */
  readonly ca?: Authorities;
  /** Name or address that the peer's certificate must be for: for whoever calls. */
  readonly host?: string;
  /**
   * Who the peer is, after everything else was found right; undefined refuses it. For whoever is called: that a CA
   * issued a certificate to somebody does not say that he may do something here.
   */
  readonly authorize?: (
    certificate: X509Certificate,
    remoteAddress: string | undefined,
  ) => string | undefined | PromiseLike<string | undefined>;
}

/** Tuned by us: a chain of RSA-4096 certificates has 8 KB. */
const PROOF_LIMIT = 64 * 1024;
const JUDGEMENT_LIFETIME = 60_000;
const JUDGEMENTS_LIMIT = 64;

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function certificate({ key, chain, trust }: CertificateOptions): Mechanism {
  check(key !== undefined || trust !== undefined, 'certificate: neither key nor trust');
  check((key === undefined) === (chain === undefined), 'certificate: key and chain go together');
  check(
    trust === undefined || trust.host !== undefined || trust.authorize !== undefined,
    'certificate: trust needs host or authorize, otherwise anybody with a certificate would do',
  );
  const signer = key === undefined || key instanceof BatchSigner ? key : new BatchSigner({ key });
  const own = chain === undefined ? [] : certificatesOf(chain);
  check(
    signer === undefined || own[0]?.checkPrivateKey(signer.key) === true,
    'certificate: key and chain differ',
  );
  check(own.length <= CHAIN_LIMIT, `certificate: ${own.length} certificates`);
  const encodedChain = encodeChain(own);
  const anchors = trust?.ca === undefined ? undefined : new Anchors(trust.ca);
  const judgeServers = judgeOf(trust ?? {}, anchors, 'server');
  const judgeClients = judgeOf(trust ?? {}, anchors, 'client');
  return {
    name: 'certificate',
    canProve: signer !== undefined,
    canVerify: trust !== undefined,
    hint: new Uint8Array(),
    async run({ role, proving, verifying, binding, send, receive, remoteAddress }) {
      if (proving && signer !== undefined) {
        const proof = await signer.sign(binding(role));
        send(Buffer.concat([u16(signer.scheme), encodedChain, encodePath(proof)]));
      }
      if (!verifying || trust === undefined) return undefined;
      const proof = await receive(PROOF_LIMIT);
      const leaf =
        role === 'A'
          ? checkProof(proof, binding('B'), judgeServers)
          : checkProof(proof, binding('A'), judgeClients);
      const name = trust.authorize === undefined ? trust.host : await trust.authorize(leaf, remoteAddress);
      if (name === undefined) {
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE', { detail: 'not authorized here' });
      }
      return { mechanism: 'certificate', name, certificate: leaf };
    },
  };
}

const encodeChain = (chain: readonly X509Certificate[]): Buffer =>
  Buffer.concat([u8(chain.length), ...chain.flatMap(({ raw }) => [u24(raw.length), raw])]);

const encodePath = ({ blind, index, size, siblings, signature }: BatchProof): Buffer =>
  Buffer.concat([blind, u32(index), u32(size), u8(siblings.length), ...siblings, signature]);

/** The parts of a PROOF. @throws ERR_TCPCRYPT_AUTH_MESSAGE */
function parseProof(proof: Buffer) {
  const reader = new Reader(proof, 'certificate proof');
  const scheme = reader.u16();
  const count = reader.u8();
  if (count === 0 || count > CHAIN_LIMIT) throw malformed(`${count} certificates`);
  const chain = Array.from({ length: count }, () => reader.bytes(reader.u24()));
  const blind = reader.bytes(BLIND_LENGTH);
  const index = reader.u32();
  const size = reader.u32();
  const depth = reader.u8();
  if (depth > PATH_LIMIT) throw malformed('a path too deep');
  const siblings = Array.from({ length: depth }, () => reader.bytes(HASH_LENGTH));
  return { scheme, chain, blind, path: { index, size, siblings }, signature: reader.rest() };
}

/**
 * @returns the peer's certificate
 * @throws ERR_TCPCRYPT_AUTH_MESSAGE, _CERTIFICATE, _CERTIFICATE_NAME, _BATCH
 */
function checkProof(
  proof: Buffer,
  binding: ReturnType<Exchange['binding']>,
  judge: (chain: readonly Buffer[]) => Judgement,
): X509Certificate {
  const { scheme, chain, blind, path, signature } = parseProof(proof);
  const root = rootOf(leafOf(blind, binding), path);
  if (root === undefined) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_BATCH', { detail: 'shape of the path' });
  const { leaf, key } = judge(chain);
  if (!verifySignature(key, scheme, signedContent(path.size, root), signature)) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_BATCH');
  }
  return leaf;
}

/** A chain that was found right. */
interface Judgement {
  readonly leaf: X509Certificate;
  readonly key: KeyObject;
  /** Time in milliseconds. */
  readonly until: number;
}

/**
 * Judges chains, and remembers for a minute those that it found right: parsing and checking them costs a client more
 * than everything else.
 */
function judgeOf(trust: CertificateTrust, anchors: Anchors | undefined, purpose: 'server' | 'client') {
  const known = new Map<string, Judgement>();
  return (chain: readonly Buffer[]): Judgement => {
    const id = hash('sha256', Buffer.concat(chain.map(prefixed)), 'hex');
    const now = Date.now();
    const before = known.get(id);
    if (before !== undefined && now <= before.until) return before;
    const found = verifyChain(chain.map(parse), {
      anchors: anchors ?? Anchors.system(),
      purpose,
      host: trust.host,
      now: new Date(now),
    });
    const leaf = found[0] as X509Certificate;
    const ends = found.map(({ validTo }) => Date.parse(validTo));
    const judgement = { leaf, key: leaf.publicKey, until: Math.min(now + JUDGEMENT_LIFETIME, ...ends) };
    if (known.size >= JUDGEMENTS_LIMIT) known.clear();
    known.set(id, judgement);
    return judgement;
  };
}

function parse(der: Buffer): X509Certificate {
  try {
    const certificate = new X509Certificate(der);
    // OpenSSL reads the key only when it is asked for.
    certificate.publicKey;
    return certificate;
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE', { detail: 'it cannot be read', cause });
  }
}
