/** What an application wishes for its connection, within what the daemon was told. */
import type { Wish } from '../kernel/wishes.js';
import type { Encryption } from '../socket/options.js';

/** @returns undefined when the connection is not to be encrypted, or cannot be as the application wishes */
export function heed(settings: Encryption, wish: Wish | undefined): Encryption | undefined {
  if (wish === undefined) return settings;
  if (wish.enabled === false) return undefined;
  const { resumption } = settings;
  const teps = chosen(settings.teps, wish.teps);
  const ciphers = chosen(settings.ciphers, wish.roleB ? wish.ciphersB : wish.ciphersA);
  if (teps.length === 0 || ciphers.length === 0) return undefined;
  return {
    ...settings,
    teps,
    ciphers,
    mode: wish.mandatory ? 'required' : settings.mode,
    aware: settings.aware || wish.aware,
    mandatoryAware: settings.mandatoryAware || wish.mandatoryAware,
    roleB: settings.roleB || wish.roleB,
    resumption: { ...resumption, resume: resumption.resume && !wish.noResume },
  };
}

/** The same for a server, in whose name the kernel has answered the SYN already. */
export function heedListener(settings: Encryption, wish: Wish | undefined): Encryption {
  if (wish === undefined) return settings;
  const ciphers = chosen(settings.ciphers, wish.ciphersB);
  return {
    ...settings,
    mode: wish.mandatory ? 'required' : settings.mode,
    ...(ciphers.length > 0 ? { ciphers } : {}),
  };
}

/** What of `allowed` is wished, in the order of the wish. */
const chosen = <T extends number>(
  allowed: readonly T[],
  wished: readonly number[] | undefined,
): readonly T[] =>
  wished === undefined ? allowed : wished.flatMap((id) => allowed.filter((other) => other === id));
