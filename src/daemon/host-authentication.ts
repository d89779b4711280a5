/**
 * Two daemons prove to each other which hosts they are, under applications that know nothing of it. On the connection
 * between the daemons, before a byte of the application is passed on (src/auth); agreed on by the application-aware
 * bit, so that hosts without it are not disturbed.
 *
 *   demanded    by a rule of the policy: by which mechanism the other host must prove who it is
 *   offered     on what comes in, and on `private` connections that go out: we prove who we are to whoever asks
 *
 * Keys are read at the start, while the daemon is root.
 */
import type { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Authentication } from '../auth/authenticate.js';
import { certificate } from '../auth/certificate.js';
import { isFor } from '../auth/certificate-chain.js';
import { type ReadFile, readHostKey, readSecret, readSharedKey, unusable } from '../auth/key-files.js';
import { knownHosts } from '../auth/known-hosts.js';
import { knownKey } from '../auth/known-key.js';
import type { Mechanism } from '../auth/mechanism.js';
import { sharedKey } from '../auth/shared-key.js';
import { TcpcryptError } from '../errors.js';
import { demandOf, type Ends } from './policy/demand.js';
import type { HostMechanism, HostSecrets } from './policy/host-secrets.js';
import type { Direction, Policy } from './policy/policy.js';

/** Told of hosts whose key is remembered for the first time. */
export type OnFirstUse = (host: string, fingerprint: string) => void;

/** Where keys and certificates are read. */
export interface HostFiles {
  readonly secret: ReadFile;
  readonly open: ReadFile;
}
const ON_DISK: HostFiles = { secret: readSecret, open: (file) => readFileSync(file) };

/** What a process that cannot read the files any more is given: contents, by name. */
export type HostFileContents = ReadonlyMap<string, Uint8Array>;

/** Reads on the disk, and remembers for {@link filesFrom}. */
export function rememberingFiles(): { readonly files: HostFiles; readonly contents: HostFileContents } {
  const contents = new Map<string, Uint8Array>();
  const remembering =
    (read: ReadFile): ReadFile =>
    (file) => {
      const bytes = read(file);
      contents.set(file, bytes);
      return bytes;
    };
  return { files: { secret: remembering(ON_DISK.secret), open: remembering(ON_DISK.open) }, contents };
}

export function filesFrom(contents: HostFileContents): HostFiles {
  const read: ReadFile = (file) => {
    const bytes = contents.get(file);
    if (bytes === undefined) throw unusable(file, 'it was not read at the start');
    return Buffer.from(bytes);
  };
  return { secret: read, open: read };
}

export class HostAuthentication {
  readonly #mechanisms: ReadonlyMap<HostMechanism, Mechanism>;
  #policy: Policy;
  /**
   * For connections on which we demand nothing. Undefined when this host has nothing to prove or check a proof with: then
   * it does not set the aware bit, and otherwise it must listen to whoever sets it too.
   */
  readonly offered: Authentication | undefined;

  /** @throws ERR_TCPCRYPT_AUTH_KEY_FILE */
  constructor(policy: Policy, onFirstUse: OnFirstUse, files: HostFiles = ON_DISK) {
    const { authentication: secrets = {} } = policy;
    const mechanisms = new Map<HostMechanism, Mechanism>();
    const add = (name: HostMechanism, mechanism: Mechanism | undefined): void => {
      if (mechanism !== undefined) mechanisms.set(name, mechanism);
    };
    add('certificate', certificateMechanism(secrets, files));
    add('host-key', hostKeyMechanism(secrets, onFirstUse, files));
    add('shared-key', sharedKeyMechanism(secrets, files));
    this.#mechanisms = mechanisms;
    this.#policy = policy;
    this.offered = mechanisms.size === 0 ? undefined : { offer: [...mechanisms.values()], require: false };
  }

  /**
   * From now on this policy.
   * @throws ERR_TCPCRYPT_POLICY when its secrets are others: only root could read them
   */
  follow(policy: Policy): void {
    if (!isDeepStrictEqual(policy.authentication, this.#policy.authentication))
      throw new TcpcryptError('ERR_TCPCRYPT_POLICY', {
        detail: `${policy.source}: [authentication] has changed, and its keys are read at the start only: restart the daemon`,
      });
    this.#policy = policy;
  }

  /** For a connection that is `private`. */
  of(direction: Direction, ends: Ends): Authentication | undefined {
    const demanded = demandOf(this.#policy, direction, ends);
    if (demanded === undefined) return this.offered;
    // The reader of policy files has seen to it that there is one; without it nobody could be authenticated.
    const mechanism = this.#mechanisms.get(demanded);
    return { offer: mechanism === undefined ? [] : [mechanism], require: true };
  }
}

function sharedKeyMechanism({ sharedKey: file }: HostSecrets, { secret }: HostFiles): Mechanism | undefined {
  return file === undefined ? undefined : sharedKey({ key: readSharedKey(file, secret) });
}

function hostKeyMechanism(
  { hostKey, knownHosts: file, firstUse = 'refuse' }: HostSecrets,
  onFirstUse: OnFirstUse,
  { secret }: HostFiles,
): Mechanism | undefined {
  if (hostKey === undefined && file === undefined) return undefined;
  return knownKey({
    ...(hostKey === undefined ? {} : { key: readHostKey(hostKey, secret) }),
    ...(file === undefined ? {} : { trust: knownHosts({ file, firstUse, onFirstUse }) }),
  });
}

function certificateMechanism(secrets: HostSecrets, files: HostFiles): Mechanism | undefined {
  const { certificate: chain, certificateKey: key, ca, names = [] } = secrets;
  if (chain === undefined && ca === undefined) return undefined;
  const authorize = (peer: X509Certificate, remoteAddress: string | undefined): string => {
    const address = remoteAddress?.replace(/^::ffff:(?=\d+\.)/i, '');
    const acceptable = names.length > 0 ? names : address === undefined ? [] : [address];
    const name = acceptable.find((candidate) => isFor(peer, candidate));
    if (name !== undefined) return name;
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME', {
      detail: `${peer.subjectAltName ?? 'no name'}, not ${acceptable.join(' or ')}`,
    });
  };
  try {
    return certificate({
      ...(chain === undefined || key === undefined
        ? {}
        : { key: files.secret(key).toString('latin1'), chain: files.open(chain).toString('latin1') }),
      ...(ca === undefined ? {} : { trust: { ca: files.open(ca).toString('latin1'), authorize } }),
    });
  } catch (error) {
    if (error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_AUTH_KEY_FILE') throw error;
    const file = (error as NodeJS.ErrnoException).path ?? [chain, ca].filter(Boolean).join(', ');
    throw unusable(file, error instanceof Error ? error.message : String(error), error);
  }
}
