/**
 * What node:crypto does not tell of a certificate: the algorithm of its signature, and its extensions (RFC 5280
 * §4.2). OpenSSL has parsed the certificate before; this reader still trusts no length.
 */
import { TcpcryptError } from '../errors.js';

export interface Extension {
  /** Contents octets of the OID, hexadecimal. */
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Buffer;
}

export interface CertificateDetails {
  /** Contents octets of the OID, hexadecimal. */
  readonly signatureAlgorithm: string;
  readonly extensions: readonly Extension[];
}

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  sequence: 0x30,
  extensions: 0xa3,
} as const;

interface Element {
  readonly tag: number;
  readonly contents: Buffer;
  readonly next: Buffer;
}

/** The first element of `bytes`. Tags of one byte, definite lengths: DER as certificates have it. */
function element(bytes: Buffer): Element {
  const tag = bytes[0];
  const first = bytes[1];
  if (tag === undefined || first === undefined) throw bad('DER');
  const size = first < 0x80 ? 0 : first & 0x7f;
  if (first === 0x80 || size > 4 || bytes.length < 2 + size) throw bad('DER length');
  const length = size === 0 ? first : bytes.readUIntBE(2, size);
  const end = 2 + size + length;
  if (end > bytes.length) throw bad('DER length');
  return { tag, contents: bytes.subarray(2 + size, end), next: bytes.subarray(end) };
}

function expect(bytes: Buffer, tag: number): Element {
  const found = element(bytes);
  if (found.tag !== tag) throw bad(`DER tag ${found.tag}, not ${tag}`);
  return found;
}

function elements(bytes: Buffer): Element[] {
  const found: Element[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const one = element(rest);
    found.push(one);
    rest = one.next;
  }
  return found;
}

/** Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } @throws ERR_TCPCRYPT_AUTH_CERTIFICATE */
export function detailsOf(der: Buffer): CertificateDetails {
  const certificate = expect(der, TAG.sequence);
  const tbs = expect(certificate.contents, TAG.sequence);
  const algorithm = expect(tbs.next, TAG.sequence);
  const wrapped = elements(tbs.contents).find(({ tag }) => tag === TAG.extensions);
  const list = wrapped === undefined ? [] : elements(expect(wrapped.contents, TAG.sequence).contents);
  const extensions = list.map(({ contents }) => {
    const oid = expect(contents, TAG.oid);
    const maybe = element(oid.next);
    const critical = maybe.tag === TAG.boolean && maybe.contents[0] !== 0;
    const value = expect(maybe.tag === TAG.boolean ? maybe.next : oid.next, TAG.octetString);
    return { oid: oid.contents.toString('hex'), critical, value: value.contents };
  });
  if (new Set(extensions.map(({ oid }) => oid)).size !== extensions.length) throw bad('an extension twice');
  return { signatureAlgorithm: expect(algorithm.contents, TAG.oid).contents.toString('hex'), extensions };
}

/** KeyUsage ::= BIT STRING; bit 0 is the highest of the first byte. */
export function keyUsageHas(value: Buffer, bit: number): boolean {
  const bits = expect(value, TAG.bitString).contents;
  return ((bits[1 + (bit >> 3)] ?? 0) & (0x80 >> (bit & 7))) !== 0;
}

/** BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL } */
export function pathLengthOf(value: Buffer): number | undefined {
  const integer = elements(expect(value, TAG.sequence).contents).find(({ tag }) => tag === TAG.integer);
  if (integer === undefined) return undefined;
  if (integer.contents.length > 1) return Number.MAX_SAFE_INTEGER;
  return integer.contents[0] ?? 0;
}

const bad = (detail: string): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE', { detail });
