/**
 * A policy for one cgroup (`tcpcrypt run`): rules in the running daemon's policy table, before all others there, and a
 * table of its own that refuses what the policy refuses when the daemon, and with it the other rules, has gone.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { NFT_CGROUPS } from './cgroup.js';
import { close } from './libc.js';
import { lockNamespace } from './namespace-lock.js';
import { ENO_KIND, has, hasNot, hex, IS_SYN, MARK, without } from './packet-marks.js';
import {
  type CgroupMatch,
  COMMANDS,
  COMMANDS_IN_USE,
  INBOUND_COMMANDS,
  mustStay,
  POLICY_TABLE,
  type PolicyRules,
  ruleText,
} from './policy-rules.js';

import { isInstalled, run } from './tools.js';

const BITS = MARK.ENCRYPT | MARK.PRIVATE;
/** The names of all that is made for commands begin so. */
export const COMMAND_PREFIX = 'tcpcrypt_run_';

/**
 * @param name of the chains and the table: letters, digits, "_"; unique in this network namespace
 * @param daemon there is one, with its tables
 */
export function commandRules(
  name: string,
  { path, level }: CgroupMatch,
  rules: PolicyRules,
  daemon: boolean,
): string {
  const cgroup = `socket cgroupv2 level ${level} "${path}"`;
  const lines = (direction: 'outbound' | 'inbound'): string =>
    rules[direction].flatMap((rule) => ruleText(rule, direction).map((line) => `    ${line}\n`)).join('');
  const strict = mustStay(rules) ? strictTable(name, cgroup, lines) : '';
  if (!daemon) return strict;
  return `
table inet ${POLICY_TABLE} {
  chain ${name}_outbound {
${lines('outbound')}  }
  chain ${name}_inbound {
${lines('inbound')}  }
  chain ${name}_hold {
    jump ${COMMANDS_IN_USE}
  }
}
insert rule inet ${POLICY_TABLE} ${COMMANDS} ${cgroup} goto ${name}_outbound comment "${name}"
insert rule inet ${POLICY_TABLE} ${INBOUND_COMMANDS} ${cgroup} goto ${name}_inbound comment "${name}"
${strict}`;
}

/** After the policy's own table (-299, -97), and only about what that has let pass. */
const strictTable = (
  name: string,
  cgroup: string,
  lines: (direction: 'outbound' | 'inbound') => string,
): string => `
table inet ${name} {
  counter blocked_outbound {}
  counter blocked_inbound {}
  chain outbound_decided {}
  chain outbound_rules {
${lines('outbound').replaceAll('counter name blocked_outbound ', '')}  }
  chain inbound_rules {
${lines('inbound').replaceAll('counter name blocked_inbound ', '')}  }
  chain output {
    type filter hook output priority -298; policy accept;
    ${IS_SYN} oifname != "lo" ${hasNot(MARK.DAEMON_SOCKET | MARK.REDIRECT | MARK.REFUSE)} ${cgroup} jump outbound
  }
  chain outbound {
    # Speaks ENO itself, under the eyes of the policy's table.
    ${has(MARK.PRIVATE)} tcp option ${ENO_KIND} exists return
    jump outbound_rules
    ${has(MARK.PRIVATE)} meta mark set meta mark | ${hex(MARK.REFUSE)}
    meta mark set ${without(BITS)}
  }
  chain refuse {
    type filter hook output priority 11; policy accept;
    ${has(MARK.REFUSE)} meta l4proto tcp reject with tcp reset
  }
  # What went to the daemon has the daemon's socket, and that is in another cgroup.
  chain prerouting {
    type filter hook prerouting priority -96; policy accept;
    ${IS_SYN} iifname != "lo" ${cgroup} ct mark & ${hex(MARK.PRIVATE)} == 0 jump inbound
  }
  chain inbound {
    jump inbound_rules
    ${has(MARK.PRIVATE | MARK.REFUSE)} reject with tcp reset
    meta mark set ${without(BITS)}
  }
}
`;

/** POSIX sh: removes what {@link commandRules} made, as far as it is there. */
export const removeCommandRules = (name: string): string => `
for chain in ${COMMANDS} ${INBOUND_COMMANDS}; do
  nft -a list chain inet ${POLICY_TABLE} $chain 2>/dev/null |
    sed -n 's/.*comment "${name}" # handle \\([0-9]*\\)$/\\1/p' |
    while read -r handle; do nft delete rule inet ${POLICY_TABLE} $chain handle "$handle"; done
done
nft delete chain inet ${POLICY_TABLE} ${name}_outbound 2>/dev/null
nft delete chain inet ${POLICY_TABLE} ${name}_inbound 2>/dev/null
nft delete chain inet ${POLICY_TABLE} ${name}_hold 2>/dev/null
nft delete table inet ${name} 2>/dev/null
`;

/** POSIX sh: returns when no command uses the daemon any more, and none can come to use it. */
export const noMoreCommands = (): string => `
until nft delete chain inet ${POLICY_TABLE} ${COMMANDS_IN_USE} 2>/dev/null; do
  nft list chain inet ${POLICY_TABLE} ${COMMANDS_IN_USE} >/dev/null 2>&1 || break
  sleep 0.2
done
`;

/**
 * As long as somebody has it, what bears that name is in use: by the shell that removes it in the end. In this network
 * namespace, as the rules are; process numbers may mean something else to others in it.
 * @returns undefined when the name is taken
 */
export const lockCommand = (name: string): number | undefined => lockNamespace(name);

/**
 * Removes the rules of commands whose shell was killed, so that nobody does; not while a process of the command still runs.
 * @returns their names
 */
export function sweepCommandRules(): string[] {
  if (!isInstalled('nft')) return [];
  const names = new Set(run('nft', ['list', 'chains', 'inet']).match(NAMES));
  const stale = [...names].filter((name) => {
    const lock = lockCommand(name);
    if (lock === undefined) return false;
    close(lock);
    return !isPopulated(name);
  });
  for (const name of stale) run('/bin/sh', ['-c', `${removeCommandRules(name)} true`]);
  return stale;
}

const NAMES = new RegExp(
  `\\b${COMMAND_PREFIX}[0-9a-z]+(?:_[0-9a-f]+)?(?=_(?:outbound|inbound|hold)\\b| \\{)`,
  'g',
);

/** nft names a cgroup that is there by its path, otherwise by its number. */
function isPopulated(name: string): boolean {
  const rules = run('nft', ['list', 'ruleset', 'inet']).split('\n');
  const from = rules.filter((line) => line.includes(`goto ${name}_`));
  const table = rules.indexOf(`table inet ${name} {`);
  const own = table < 0 ? [] : rules.slice(table, rules.indexOf('}', table));
  return [...from, ...own].some((line) => {
    const path = /socket cgroupv2 level \d+ "([^"]+)"/.exec(line)?.[1];
    if (path === undefined) return false;
    try {
      return readFileSync(join(NFT_CGROUPS, path, 'cgroup.events'), 'utf8').includes('populated 1');
    } catch {
      return false;
    }
  });
}
