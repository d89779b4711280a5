/** Issues certificates for tests: a CA of our own, and whatever can be wrong with what it issues. */
import { KeyObject, type webcrypto } from 'node:crypto';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(globalThis.crypto);

export type KeyKind = 'rsa' | 'rsa1024' | 'rsaSha1' | 'p256' | 'p384' | 'ed25519';

const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]) };
const ALGORITHMS = {
  rsa: { ...RSA, modulusLength: 2048 },
  rsaSha1: { ...RSA, modulusLength: 2048, hash: 'SHA-1' },
  rsa1024: { ...RSA, modulusLength: 1024 },
  p256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  p384: { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  ed25519: { name: 'Ed25519' },
} as const;

export interface Issued {
  readonly pem: string;
  readonly key: KeyObject;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly subject: string;
  readonly algorithm: (typeof ALGORITHMS)[KeyKind];
}

export interface Request {
  readonly subject?: string;
  readonly kind?: KeyKind;
  readonly issuer?: Issued;
  readonly names?: readonly x509.JsonGeneralName[];
  /** undefined: no basicConstraints at all. */
  readonly ca?: boolean;
  readonly pathLength?: number;
  readonly usage?: x509.KeyUsageFlags;
  readonly purposes?: readonly string[];
  readonly from?: Date;
  readonly to?: Date;
  readonly more?: readonly x509.Extension[];
}

const DAY = 86_400_000;
export const SERVER = '1.3.6.1.5.5.7.3.1';
export const CLIENT = '1.3.6.1.5.5.7.3.2';

export async function issue(request: Request = {}): Promise<Issued> {
  const { subject = 'CN=test', kind = 'p256', issuer } = request;
  const algorithm = ALGORITHMS[kind];
  const keys = (await crypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const extensions: x509.Extension[] = [...(request.more ?? [])];
  if (request.ca !== undefined) {
    extensions.push(new x509.BasicConstraintsExtension(request.ca, request.pathLength, true));
  }
  if (request.usage !== undefined) extensions.push(new x509.KeyUsagesExtension(request.usage, true));
  if (request.purposes !== undefined) {
    extensions.push(new x509.ExtendedKeyUsageExtension([...request.purposes]));
  }
  if (request.names !== undefined) {
    extensions.push(new x509.SubjectAlternativeNameExtension([...request.names]));
  }
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: issuer?.subject ?? subject,
    notBefore: request.from ?? new Date(Date.now() - DAY),
    notAfter: request.to ?? new Date(Date.now() + DAY),
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    signingAlgorithm: issuer?.algorithm ?? algorithm,
    extensions,
  });
  return {
    pem: `${certificate.toString('pem')}\n`,
    key: KeyObject.from(keys.privateKey),
    keys,
    subject,
    algorithm,
  };
}

export const authority = (request: Request = {}): Promise<Issued> =>
  issue({ subject: 'CN=Test Root', ca: true, usage: x509.KeyUsageFlags.keyCertSign, ...request });

export const serverCertificate = (issuer: Issued, request: Request = {}): Promise<Issued> =>
  issue({
    subject: 'CN=server',
    issuer,
    ca: false,
    usage: x509.KeyUsageFlags.digitalSignature,
    purposes: [SERVER],
    names: [{ type: 'dns', value: 'server.example' }],
    ...request,
  });

export { x509 };
