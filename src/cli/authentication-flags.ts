/** The flags of `listen` and `connect` about who is at the other end. */
import { type Command, Option } from 'commander';
import type { Authentication } from '../auth/authenticate.js';
import { readHostKey, readSharedKey } from '../auth/key-files.js';
import { knownHosts } from '../auth/known-hosts.js';
import { knownKey } from '../auth/known-key.js';
import { sharedKey } from '../auth/shared-key.js';
import { line, say } from './connection-report.js';

export interface AuthenticationFlags {
  readonly authKey?: string;
  readonly hostKey?: string;
  readonly knownHosts?: string;
  readonly json?: boolean;
}

export function addAuthenticationFlags(command: Command, hostName: string): Command {
  return command
    .addOption(
      new Option(
        '--auth-key <file>',
        'only with a peer that has the same secret, of 16 bytes or more',
      ).conflicts(['hostKey', 'knownHosts']),
    )
    .option('--host-key <file>', 'prove who we are: a key made by "tcpcrypt host-key make"')
    .option(
      '--known-hosts <file>',
      `only with a peer that has a host key: the one in this file, or at first use any; under ${hostName}`,
    );
}

/** @param host under which a known key is remembered; undefined: the peer's address */
export function authenticationOptions(
  { authKey, hostKey, knownHosts: file, json = false }: AuthenticationFlags,
  host?: string,
): { readonly auth?: Authentication } {
  if (authKey !== undefined) return { auth: { offer: [sharedKey({ key: readSharedKey(authKey) })] } };
  if (hostKey === undefined && file === undefined) return {};
  const onFirstUse = (name: string, fingerprint: string): void => {
    if (json) line({ event: 'first-use', host: name, fingerprint, file });
    else say(`${name} is new: its key ${fingerprint} was written to ${file}`);
  };
  const mechanism = knownKey({
    ...(hostKey === undefined ? {} : { key: readHostKey(hostKey) }),
    ...(file === undefined
      ? {}
      : { trust: knownHosts({ file, onFirstUse, ...(host === undefined ? {} : { host }) }) }),
  });
  return { auth: { offer: [mechanism] } };
}
