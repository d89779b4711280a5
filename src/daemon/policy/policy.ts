/** What the operator wants: which connections are encrypted, and which are not made at all. See docs/daemon.md. */
import type { PolicyAction, PortRange } from '../../kernel/policy-rules.js';
import type { HostMechanism, HostSecrets } from './host-secrets.js';
import { type Network, parseNetwork } from './network.js';

export type { PolicyAction, PortRange };
export type Direction = 'outbound' | 'inbound';

export const ACTIONS: readonly PolicyAction[] = ['clear', 'private-or-clear', 'private', 'block'];

/** One rule; what it does not mention matches all. */
export interface Rule {
  readonly name?: string;
  readonly action: PolicyAction;
  readonly directions: readonly Direction[];
  /** The other end's address. */
  readonly networks?: readonly Network[];
  /** The port that is connected to. */
  readonly ports?: readonly PortRange[];
  /** This host's port. */
  readonly localPorts?: readonly PortRange[];
  /** Below the root of the cgroup v2 hierarchy, with a leading slash. */
  readonly cgroups?: readonly string[];
  readonly users?: readonly User[];
  /** With `private`: how the other host must prove who it is. */
  readonly authenticate?: HostMechanism;
  /** Only connections that do not leave this host. */
  readonly thisHost?: true;
  /** Where it stands in the file; absent for those that are built in. */
  readonly line?: number;
}

export interface User {
  readonly name: string;
  readonly uid: number;
}

export interface Policy {
  /** The file, or 'built-in'. */
  readonly source: string;
  /** First match wins. */
  readonly rules: readonly Rule[];
  /** Services that encrypt by themselves: `clear`, unless a rule says something else. */
  readonly exceptPorts: readonly PortRange[];
  readonly default: Readonly<Record<Direction, PolicyAction>>;
  /** By what this host proves who it is, and how it knows the others. */
  readonly authentication?: HostSecrets;
}

const BOTH = ['outbound', 'inbound'] as const;

/**
 * Ports of services that are always encrypted (IANA's registry, and the usual ones of Docker, Kubernetes and
 * HTTPS beside 443): ssh, https, smtps, nntps, ldaps, domain-s, ftps (2), telnets, imaps, pop3s, Docker, msft-gc-ssl,
 * sips, stuns/turns, amqps, wsmans, Kubernetes, syslog-tls, ircs-u, https-alt, secure-mqtt.
 */
const ENCRYPTED_PORTS: readonly number[] = [
  22, 443, 465, 563, 636, 853, 989, 990, 992, 993, 995, 2376, 3269, 5061, 5349, 5671, 5986, 6443, 6514, 6697,
  8443, 8883,
];

export const BUILT_IN: Policy = {
  source: 'built-in',
  rules: [],
  exceptPorts: ENCRYPTED_PORTS.map((port) => [port, port] as const),
  default: { outbound: 'private-or-clear', inbound: 'private-or-clear' },
};

/** Of a daemon that is there for `tcpcrypt run`, whose rules come before these. */
export const ONLY_COMMANDS: Policy = {
  source: 'tcpcrypt run',
  rules: [],
  exceptPorts: [],
  default: { outbound: 'clear', inbound: 'clear' },
};

/** The rules in the order in which they are asked: the operator's, the exceptions, the default. */
export function allRules(policy: Policy): readonly Rule[] {
  const { rules, exceptPorts } = policy;
  const exceptions: Rule[] = [
    { name: 'within this host', action: 'clear', directions: BOTH, thisHost: true },
    { name: 'multicast', action: 'clear', directions: BOTH, networks: MULTICAST },
    ...(exceptPorts.length === 0
      ? []
      : [{ name: 'encrypted anyway', action: 'clear', directions: BOTH, ports: exceptPorts } as const]),
  ];
  const defaults = BOTH.map(
    (direction): Rule => ({
      name: `default, ${direction}`,
      action: policy.default[direction],
      directions: [direction],
    }),
  );
  return [...rules, ...exceptions, ...defaults];
}

/** With ports that are left alone whatever the rules say. */
export const withClearPorts = (policy: Policy, ports: readonly number[]): Policy =>
  ports.length === 0
    ? policy
    : {
        ...policy,
        rules: [
          { name: '--except', action: 'clear', directions: BOTH, ports: merged(ports.map((p) => [p, p])) },
          ...policy.rules,
        ],
      };

/** Sorted, and without overlaps. */
export function merged(ranges: readonly PortRange[]): PortRange[] {
  const result: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const previous = result.at(-1);
    if (previous !== undefined && first <= previous[1] + 1) previous[1] = Math.max(previous[1], last);
    else result.push([first, last]);
  }
  return result;
}

const MULTICAST = ['224.0.0.0/4', 'ff00::/8'].flatMap((text) => parseNetwork(text) ?? []);
