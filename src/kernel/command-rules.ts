/**
 * A policy for one cgroup (`tcpcrypt run`): rules in the running daemon's policy table, before all others there, and a
 * table of its own that refuses what the policy refuses when the daemon, and with it the other rules, has gone.
 */
import { ENO_KIND, has, hasNot, hex, IS_SYN, MARK, without } from './packet-marks.js';
import {
  type CgroupMatch,
  COMMANDS,
  INBOUND_COMMANDS,
  mustStay,
  POLICY_TABLE,
  type PolicyRules,
  ruleText,
} from './policy-rules.js';

const BITS = MARK.ENCRYPT | MARK.PRIVATE;

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
    oifname != "lo" ${IS_SYN} ${hasNot(MARK.DAEMON_SOCKET | MARK.REDIRECT | MARK.REFUSE)} ${cgroup} jump outbound
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
    meta l4proto tcp ${has(MARK.REFUSE)} reject with tcp reset
  }
  # What went to the daemon has the daemon's socket, and that is in another cgroup.
  chain prerouting {
    type filter hook prerouting priority -96; policy accept;
    iifname != "lo" ${IS_SYN} ${cgroup} ct mark & ${hex(MARK.PRIVATE)} == 0 jump inbound
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
nft delete table inet ${name} 2>/dev/null
`;
