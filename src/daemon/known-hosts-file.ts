/**
 * The file of known hosts must be readable for the daemon, which is not root any more; with first-use = "accept" it is
 * replaced with every new host, so that its directory must be writable, and nobody else's.
 */
import { accessSync, chownSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { TcpcryptError } from '../errors.js';
import { findUser } from '../kernel/privileges.js';
import { FALLBACK, ROOT } from './least-privilege.js';
import type { HostSecrets } from './policy/host-secrets.js';

/** While the daemon is root: makes the directory, if there is none, for `user`. @throws ERR_TCPCRYPT_AUTH_KNOWN_HOSTS */
export function makeKnownHostsDirectory({ knownHosts, firstUse }: HostSecrets, user: string): void {
  if (knownHosts === undefined || firstUse !== 'accept') return;
  if (user === FALLBACK)
    throw unusable(
      knownHosts,
      `with first-use = "accept" it must not be written by ${FALLBACK}: useradd --system --no-create-home tcpcrypt`,
    );
  const directory = dirname(knownHosts);
  if (existsSync(directory)) return;
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const owner = user === ROOT ? undefined : findUser(user);
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid);
}

/** As who the daemon goes on. @throws ERR_TCPCRYPT_AUTH_KNOWN_HOSTS */
export function checkKnownHosts({ knownHosts, firstUse }: HostSecrets, user: string): void {
  if (knownHosts === undefined) return;
  const directory = dirname(knownHosts);
  if (firstUse === 'accept' && !may(directory, constants.W_OK | constants.X_OK))
    throw unusable(
      knownHosts,
      `${user} cannot write it: chown ${user} ${directory}, or first-use = "refuse"`,
    );
  if (existsSync(knownHosts) && !may(knownHosts, constants.R_OK))
    throw unusable(knownHosts, `${user} cannot read it: chown ${user} ${knownHosts}`);
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

const unusable = (file: string, detail: string): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_AUTH_KNOWN_HOSTS', { detail: `${file}: ${detail}` });
