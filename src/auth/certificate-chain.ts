/**
 * From a certificate to a CA that is trusted here (RFC 5280 §6, the part of it that servers need), strictly: what is
 * not understood is refused. Not checked: revocation. Not supported, hence refused: name constraints, RSASSA-PSS
 * in certificates.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import { TcpcryptError } from '../errors.js';
import { schemeOf } from './signature-scheme.js';
import { type CertificateDetails, detailsOf, keyUsageHas, pathLengthOf } from './x509-extensions.js';

/** CAs: PEM texts (each with any number of certificates), or certificates. */
export type Authorities = string | X509Certificate | readonly (string | X509Certificate)[];

export interface ChainRequirements {
  readonly anchors: Anchors;
  readonly purpose: 'server' | 'client';
  /** Name or address that the certificate must be for. */
  readonly host: string | undefined;
  readonly now: Date;
}

/** Tuned by us. */
export const CHAIN_LIMIT = 8;
const SIGNATURES_LIMIT = 32;

const OID = {
  keyUsage: '551d0f',
  subjectAltName: '551d11',
  basicConstraints: '551d13',
  nameConstraints: '551d1e',
  certificatePolicies: '551d20',
  extendedKeyUsage: '551d25',
} as const;
/** Extensions that may be critical. Policies: none is demanded, so that all are right. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.certificatePolicies,
  OID.extendedKeyUsage,
]);
/** sha256/384/512WithRSAEncryption, ecdsa-with-SHA256/384/512, Ed25519. */
const SIGNATURES: ReadonlySet<string> = new Set([
  '2a864886f70d01010b',
  '2a864886f70d01010c',
  '2a864886f70d01010d',
  '2a8648ce3d040302',
  '2a8648ce3d040303',
  '2a8648ce3d040304',
  '2b6570',
]);
const DIGITAL_SIGNATURE = 0;
const KEY_CERT_SIGN = 5;
const EKU = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2', any: '2.5.29.37.0' } as const;
/** Where systems keep their CAs. */
const SYSTEM_FILES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** The CAs that are trusted, found by their subject. */
export class Anchors {
  readonly #bySubject = new Map<string, X509Certificate[]>();

  /** @throws ERR_TCPCRYPT_ARGUMENT when one of them cannot be read */
  constructor(authorities: Authorities) {
    const list = Array.isArray(authorities)
      ? (authorities as readonly (string | X509Certificate)[])
      : [authorities as string];
    for (const item of list) {
      for (const certificate of typeof item === 'string' ? certificatesOf(item) : [item]) {
        const same = this.#bySubject.get(certificate.subject);
        if (same === undefined) this.#bySubject.set(certificate.subject, [certificate]);
        else same.push(certificate);
      }
    }
  }

  /** Those of the system; where there is no such file, those that Node brings. Read once. */
  static system(): Anchors {
    Anchors.#ofSystem ??= new Anchors(systemAuthorities());
    return Anchors.#ofSystem;
  }
  static #ofSystem: Anchors | undefined;

  withSubject(subject: string): readonly X509Certificate[] {
    return this.#bySubject.get(subject) ?? [];
  }

  has({ subject, raw }: X509Certificate): boolean {
    return this.withSubject(subject).some((anchor) => anchor.raw.equals(raw));
  }
}

function systemAuthorities(): Authorities {
  for (const file of SYSTEM_FILES) {
    try {
      return readFileSync(file, 'utf8');
    } catch {}
  }
  return rootCertificates;
}

/** Every certificate of a PEM text. @throws ERR_TCPCRYPT_ARGUMENT */
export function certificatesOf(pem: string): X509Certificate[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) {
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'no certificate in the PEM text' });
  }
  return found.map((text) => new X509Certificate(text));
}

/**
 * @param sent what the peer sent: its own certificate, then intermediate ones in any order
 * @returns the chain, from the peer's certificate to the anchor
 * @throws ERR_TCPCRYPT_AUTH_CERTIFICATE, ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME
 */
export function verifyChain(
  sent: readonly X509Certificate[],
  requirements: ChainRequirements,
): X509Certificate[] {
  const [leaf, ...intermediates] = sent;
  if (leaf === undefined) throw refused('none was sent');
  if (sent.length > CHAIN_LIMIT) throw refused(`${sent.length} certificates`);
  checkLeaf(leaf, requirements);
  const search: Search = { ...requirements, intermediates, signatures: 0, reason: 'no trusted CA issued it' };
  const chain = extend([leaf], search);
  if (chain === undefined) throw refused(search.reason);
  checkName(leaf, requirements.host);
  return chain;
}

interface Search extends ChainRequirements {
  readonly intermediates: readonly X509Certificate[];
  signatures: number;
  /** Why the last way did not lead to an anchor. */
  reason: string;
}

/** Depth first; every signature that is checked counts, so that a hostile set of certificates costs little. */
function extend(chain: readonly X509Certificate[], search: Search): X509Certificate[] | undefined {
  const last = chain.at(-1) as X509Certificate;
  // An anchor is trusted as such: a server's own certificate may be one.
  if (search.anchors.has(last)) return [...chain];
  if (chain.length >= CHAIN_LIMIT) {
    search.reason = 'the chain is too long';
    return undefined;
  }
  const candidates = [...search.anchors.withSubject(last.issuer), ...search.intermediates];
  for (const issuer of candidates) {
    if (chain.some(({ raw }) => raw.equals(issuer.raw)) || !last.checkIssued(issuer)) continue;
    const objection = objectionToIssuer(issuer, chain, search);
    if (objection !== undefined) {
      search.reason = objection;
      continue;
    }
    if (++search.signatures > SIGNATURES_LIMIT) {
      search.reason = 'too many ways to follow';
      return undefined;
    }
    if (!last.verify(issuer.publicKey)) {
      search.reason = 'a signature in the chain is wrong';
      continue;
    }
    const found = extend([...chain, issuer], search);
    if (found !== undefined) return found;
  }
  return undefined;
}

function checkLeaf(leaf: X509Certificate, requirements: ChainRequirements): void {
  const { purpose } = requirements;
  const objection = objectionTo(leaf, detailsOf(leaf.raw), requirements);
  if (objection !== undefined) throw refused(objection);
  const usage = detailsOf(leaf.raw).extensions.find(({ oid }) => oid === OID.keyUsage);
  if (usage !== undefined && !keyUsageHas(usage.value, DIGITAL_SIGNATURE)) {
    throw refused('its key is not for signatures');
  }
  if (!allowsPurpose(leaf, purpose)) throw refused(`it is not for ${purpose}s`);
}

/** What speaks against `issuer` above `chain`; undefined when nothing does. */
function objectionToIssuer(
  issuer: X509Certificate,
  chain: readonly X509Certificate[],
  requirements: ChainRequirements,
): string | undefined {
  const { purpose } = requirements;
  const details = detailsOf(issuer.raw);
  const objection = objectionTo(issuer, details, requirements);
  if (objection !== undefined) return `CA: ${objection}`;
  if (!issuer.ca) return 'an issuer is no CA';
  const usage = details.extensions.find(({ oid }) => oid === OID.keyUsage);
  if (usage !== undefined && !keyUsageHas(usage.value, KEY_CERT_SIGN))
    return 'a CA may not issue certificates';
  if (!allowsPurpose(issuer, purpose)) return `a CA is not for ${purpose}s`;
  const constraints = details.extensions.find(({ oid }) => oid === OID.basicConstraints);
  const pathLength = constraints && pathLengthOf(constraints.value);
  // Intermediates that the CA may have below it; those that issued themselves do not count (RFC 5280 §4.2.1.9).
  const below = chain.slice(1).filter(({ subject, issuer: by }) => subject !== by).length;
  if (pathLength !== undefined && below > pathLength) return 'the chain is longer than a CA allows';
  return undefined;
}

function objectionTo(
  certificate: X509Certificate,
  { signatureAlgorithm, extensions }: CertificateDetails,
  { anchors, now }: ChainRequirements,
): string | undefined {
  if (now < new Date(certificate.validFrom)) return `not valid before ${certificate.validFrom}`;
  if (now > new Date(certificate.validTo)) return `not valid after ${certificate.validTo}`;
  if (schemeOf(certificate.publicKey) === undefined) return 'its key is too weak, or of an unknown kind';
  // That an anchor signed itself proves nothing, so that its algorithm is of no consequence.
  const signedItself = certificate.subject === certificate.issuer && anchors.has(certificate);
  if (!signedItself && !SIGNATURES.has(signatureAlgorithm))
    return 'its signature is of a weak or unknown kind';
  if (extensions.some(({ oid }) => oid === OID.nameConstraints)) return 'name constraints are not supported';
  const unknown = extensions.find(({ oid, critical }) => critical && !UNDERSTOOD.has(oid));
  if (unknown !== undefined) return `unknown critical extension ${unknown.oid}`;
  return undefined;
}

/** An absent extension allows everything (RFC 5280 §4.2.1.12). Node calls the extended key usage `keyUsage`. */
function allowsPurpose({ keyUsage }: X509Certificate, purpose: 'server' | 'client'): boolean {
  return keyUsage === undefined || keyUsage.includes(EKU[purpose]) || keyUsage.includes(EKU.any);
}

function checkName(leaf: X509Certificate, host: string | undefined): void {
  if (host === undefined || isFor(leaf, host)) return;
  throw new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME', {
    detail: `${leaf.subjectAltName ?? 'no name'}, not ${host}`,
  });
}

/** Only subject alternative names count, and a wildcard is a whole label (RFC 9525 §6). */
export function isFor(leaf: X509Certificate, host: string): boolean {
  const options = { subject: 'never', partialWildcards: false } as const;
  return (isIP(host) === 0 ? leaf.checkHost(host, options) : leaf.checkIP(host)) !== undefined;
}

const refused = (detail: string): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE', { detail });
