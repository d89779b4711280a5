/** The inverse of steering, as a shell script. */
import { hex, MARK } from './packet-marks.js';
import { KEEP, POLICY_TABLE } from './policy-rules.js';
import {
  createdChain,
  createdTable,
  FAMILIES,
  LOCAL_ROUTE,
  LOCAL_RULE,
  NAME,
  QUEUE_CHAIN,
  QUEUE_TABLE,
  ROUTING_TABLE,
  RULE_PRIORITY,
} from './steering-names.js';

export interface UninstallOptions {
  /** A policy that refuses connections stays in force, without a daemon. */
  readonly butWhatRefuses?: boolean;
}

/**
 * A POSIX shell script that removes what Steering.install() has installed, and prints a line for each thing
 * that was there. For a Guard: it needs nothing but the tools, as all it has to know stands in the kernel.
 * It can be run at any time, any number of times, also when it was interrupted.
 *
 * iptables creates its nft table and chain when it needs them and leaves them, empty. Which of them were not
 * there before is remembered as an empty chain of our own table, named `created_…`; those are deleted again
 * if nobody else has put a rule there.
 */
export function uninstallScript({ butWhatRefuses = false }: UninstallOptions = {}): string {
  return `
PATH=\${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
set -f
command -v nft >/dev/null || exit 0 # then nothing of ours was made
nft list tables >/dev/null || exit # not permitted: do not take "cannot be seen" for "not there"
status=0
remove() { # remove WHAT COMMAND...
  what=$1
  shift
  if "$@"; then echo "$what"; else status=1; return 1; fi
}
only_empty_chains() { # only_empty_chains table|chain FAMILY NAME...: it exists, and nobody has put anything there
  content=$(nft list "$@" 2>/dev/null) &&
    ! printf '%s\\n' "$content" | grep -Evq '^(table .*[{]|[[:space:]]chain (PREROUTING|OUTPUT) [{]|[[:space:]]*type .*; policy accept;|[[:space:]]*[}]|#.*|)$'
}
remove_queue_rule() { # remove_queue_rule IPTABLES NFT-FAMILY
  command -v "$1" >/dev/null || return 0
  while
    rule=$("$1" -w -t ${QUEUE_TABLE} -S ${QUEUE_CHAIN} 2>/dev/null |
      sed -n '/--comment "*${NAME}"* /{s/"//g;s/^-A/-D/p;q;}')
    [ -n "$rule" ]
  do
    remove "$1 rule" "$1" -w -t ${QUEUE_TABLE} $rule || break
  done
  if nft list chain inet ${NAME} ${createdTable('$2')} >/dev/null 2>&1; then
    only_empty_chains table "$2" ${QUEUE_TABLE} && remove "nft table $2 ${QUEUE_TABLE}" nft delete table "$2" ${QUEUE_TABLE}
  elif nft list chain inet ${NAME} ${createdChain('$2')} >/dev/null 2>&1; then
    only_empty_chains chain "$2" ${QUEUE_TABLE} ${QUEUE_CHAIN} &&
      remove "nft chain $2 ${QUEUE_TABLE} ${QUEUE_CHAIN}" nft delete chain "$2" ${QUEUE_TABLE} ${QUEUE_CHAIN}
  fi
}
remove_routes() { # remove_routes -4|-6
  while ip "$1" rule show 2>/dev/null | grep -q '^${RULE_PRIORITY}:.* fwmark ${hex(MARK.LOCAL_DELIVERY)}/${hex(MARK.LOCAL_DELIVERY)} lookup ${ROUTING_TABLE}'; do
    remove "ip $1 rule" ip "$1" rule del ${LOCAL_RULE.join(' ')} || break
  done
  if ip "$1" route show table ${ROUTING_TABLE} 2>/dev/null | grep -q '^local default dev lo'; then
    remove "ip $1 route" ip "$1" route del ${LOCAL_ROUTE.join(' ')}
  fi
}
${FAMILIES.map((f) => `remove_queue_rule ${f.iptables} ${f.nft}\nremove_routes ${f.ip}`).join('\n')}
if nft list table inet ${NAME} >/dev/null 2>&1; then
  remove "nft table inet ${NAME}" nft delete table inet ${NAME}
fi
if nft list table inet ${POLICY_TABLE} >/dev/null 2>&1; then
  ${butWhatRefuses ? `nft list chain inet ${POLICY_TABLE} ${KEEP} >/dev/null 2>&1 || ` : ''}remove "nft table inet ${POLICY_TABLE}" nft delete table inet ${POLICY_TABLE}
fi
[ "$status" = 0 ]
`;
}
