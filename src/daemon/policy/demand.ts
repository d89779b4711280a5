/** Which proof the policy demands of the other host, on a connection that the rules in the kernel found `private`. */
import { explain } from './explain.js';
import type { HostMechanism } from './host-secrets.js';
import { parseNetwork } from './network.js';
import type { Direction, Policy } from './policy.js';

export interface Ends {
  /** The other host's address. */
  readonly remote: string;
  /** The port that is connected to. */
  readonly port: number;
  readonly localPort: number;
}

/**
 * The kernel does not tell which rule it was: it is the first `private` one that fits. Who owns the program, and its
 * cgroup, are not known here: rules that depend on them do not demand proofs, nor stand before those that do.
 */
export function demandOf(
  policy: Policy,
  direction: Direction,
  { remote, port, localPort }: Ends,
): HostMechanism | undefined {
  const peer = parseNetwork(remote);
  const question = { direction, port, localPort, thisHost: false, ...(peer === undefined ? {} : { peer }) };
  const { steps } = explain(policy, question);
  return steps.find(({ rule, match }) => rule.action === 'private' && match !== 'no')?.rule.authenticate;
}
