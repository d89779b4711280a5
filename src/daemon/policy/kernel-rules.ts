/** The policy in the form in which the kernel gets it. */

import { statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { cgroupRoot, NFT_CGROUPS } from '../../kernel/cgroup.js';
import type { CgroupMatch, PolicyRule, PolicyRules } from '../../kernel/policy-rules.js';
import { disjoint, networkText } from './network.js';
import { allRules, type Direction, type Policy, type Rule } from './policy.js';

/**
 * Rules for cgroups that do not exist are left out, as the kernel knows cgroups by number; see {@link cgroupState}.
 */
export const kernelRules = (policy: Policy): PolicyRules => ({
  outbound: rulesOf(policy, 'outbound'),
  inbound: rulesOf(policy, 'inbound'),
});

/** Differs when a cgroup of the policy came, went, or was made anew: then the rules must be. Empty without any. */
export function cgroupState(policy: Policy): string {
  const named = new Set(policy.rules.flatMap(({ cgroups = [] }) => cgroups));
  return [...named].map((cgroup) => `${cgroup} ${cgroupId(cgroup) ?? 'none'}`).join('\n');
}

const rulesOf = (policy: Policy, direction: Direction): PolicyRule[] =>
  allRules(policy)
    .filter(({ directions }) => directions.includes(direction))
    .flatMap((rule) => kernelRule(rule) ?? []);

function kernelRule(rule: Rule): PolicyRule | undefined {
  const { action, networks, ports, localPorts, users, cgroups, thisHost } = rule;
  const present = cgroups?.filter((cgroup) => cgroupId(cgroup) !== undefined).map(cgroupMatch);
  if (present?.length === 0) return undefined;
  const texts = networks === undefined ? undefined : disjoint(networks);
  const family = (wanted: 4 | 6): string[] =>
    (texts ?? []).filter((n) => n.family === wanted).map(networkText);
  return {
    action,
    ...(texts === undefined ? {} : { networks: { ipv4: family(4), ipv6: family(6) } }),
    ...(ports === undefined ? {} : { ports }),
    ...(localPorts === undefined ? {} : { localPorts }),
    ...(users === undefined ? {} : { uids: [...new Set(users.map(({ uid }) => uid))] }),
    ...(present === undefined ? {} : { cgroups: present }),
    ...(thisHost === undefined ? {} : { thisHost }),
  };
}

/** Of a cgroup by its path below the root of the hierarchy, with or without a leading slash. */
export const cgroupLocation = (cgroup: string): CgroupMatch => cgroupMatch(`/${cgroup.replace(/^\//, '')}`);

const directoryOf = (cgroup: string): string => join(cgroupRoot() ?? NFT_CGROUPS, cgroup);

const cgroupMatch = (cgroup: string): CgroupMatch => ({
  path: relative(NFT_CGROUPS, directoryOf(cgroup)),
  level: cgroup.split('/').length - 1,
});

function cgroupId(cgroup: string): bigint | undefined {
  return statSync(directoryOf(cgroup), { bigint: true, throwIfNoEntry: false })?.ino;
}
