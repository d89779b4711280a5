/** What became of authentication on both ends, errors by code. */
import { type AuthenticateOptions, authenticate, type Peer } from '#src/auth/index.js';
import type { Pair } from './pair.js';

export type Outcome = Peer | undefined | string;

/** The peer, or the code of the error. */
export const outcomeOf = (promise: Promise<Peer | undefined>): Promise<Outcome> =>
  promise.catch((error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error));

export async function both(
  { a, b }: Pair,
  optionsOfA: AuthenticateOptions,
  optionsOfB: AuthenticateOptions,
): Promise<[Outcome, Outcome]> {
  return Promise.all([outcomeOf(authenticate(a, optionsOfA)), outcomeOf(authenticate(b, optionsOfB))]);
}
