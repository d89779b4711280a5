/** The table `[authentication]` of the policy file: by what this host proves who it is, and how it knows the others. */
import * as v from 'valibot';

/** What a rule may demand of the other host, by the field's own words. */
export const HOST_MECHANISMS = ['certificate', 'host-key', 'shared-key'] as const;
export type HostMechanism = (typeof HOST_MECHANISMS)[number];

/** Files, by absolute path. */
export interface HostSecrets {
  /** Our own Ed25519 key, see "tcpcrypt host-key make". */
  readonly hostKey?: string;
  /** The others' keys, by address. */
  readonly knownHosts?: string;
  /** An address that is not in that file: remember its key, or refuse (the default). */
  readonly firstUse?: 'accept' | 'refuse';
  /** A secret that both hosts have. */
  readonly sharedKey?: string;
  /** Our own certificate and those between it and its CA, PEM; and its key. */
  readonly certificate?: string;
  readonly certificateKey?: string;
  /** CAs of the others, PEM. */
  readonly ca?: string;
  /** Names of which the others' certificates must bear one; by default a certificate must bear the host's address. */
  readonly names?: readonly string[];
}

const FILE = v.pipe(v.string(), v.regex(/^\/[^\0]*$/), v.maxLength(4095));
const NAME = v.pipe(v.string(), v.regex(/^[a-z0-9.*:_-]+$/i), v.maxLength(253));

export const SECRETS_SHAPE = v.strictObject({
  'host-key': v.optional(FILE),
  'known-hosts': v.optional(FILE),
  'first-use': v.optional(v.picklist(['accept', 'refuse'])),
  'shared-key': v.optional(FILE),
  certificate: v.optional(FILE),
  'certificate-key': v.optional(FILE),
  ca: v.optional(FILE),
  names: v.optional(v.pipe(v.array(NAME), v.minLength(1), v.maxLength(1000))),
});

type Shape = v.InferOutput<typeof SECRETS_SHAPE>;

/** What each key wants, for whoever wrote something else. */
export const SECRETS_WANTED: Record<string, string> = {
  authentication: 'a table: [authentication]',
  authenticate: `one of ${HOST_MECHANISMS.join(', ')}`,
  'host-key': 'the absolute path of a key that "tcpcrypt host-key make" made',
  'known-hosts': 'the absolute path of a file; lines of "ADDRESS ed25519 KEY"',
  'first-use': 'accept or refuse',
  'shared-key': 'the absolute path of a file with 16 bytes or more, e.g. made by openssl rand -hex 32',
  certificate: 'the absolute path of a certificate chain, PEM',
  'certificate-key': 'the absolute path of its private key, PEM',
  ca: 'the absolute path of the CA certificates, PEM',
  names: 'a list of host names, e.g. ["db-1.internal", "*.db.internal"]',
};

export const secretsOf = (shape: Shape): HostSecrets => {
  const {
    'host-key': hostKey,
    'known-hosts': knownHosts,
    'first-use': firstUse,
    'shared-key': sharedKey,
    'certificate-key': certificateKey,
    ...others
  } = shape;
  const all = { hostKey, knownHosts, firstUse, sharedKey, certificateKey, ...others };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
};

/** Keys that need another one: which, and why. */
export function incomplete(secrets: HostSecrets): { key: string; needs: string }[] {
  const { certificate, certificateKey, firstUse, knownHosts, names, ca } = secrets;
  return [
    ...(certificate !== undefined && certificateKey === undefined
      ? [{ key: 'certificate', needs: 'certificate-key' }]
      : []),
    ...(certificateKey !== undefined && certificate === undefined
      ? [{ key: 'certificate-key', needs: 'certificate' }]
      : []),
    ...(firstUse !== undefined && knownHosts === undefined
      ? [{ key: 'first-use', needs: 'known-hosts' }]
      : []),
    ...(names !== undefined && ca === undefined ? [{ key: 'names', needs: 'ca' }] : []),
  ];
}

/** The key without which a proof by that mechanism could not be checked, if it is missing. */
export function missing(mechanism: HostMechanism, secrets: HostSecrets = {}): string | undefined {
  switch (mechanism) {
    case 'certificate':
      return secrets.ca === undefined ? 'ca' : undefined;
    case 'host-key':
      return secrets.knownHosts === undefined ? 'known-hosts' : undefined;
    case 'shared-key':
      return secrets.sharedKey === undefined ? 'shared-key' : undefined;
  }
}
