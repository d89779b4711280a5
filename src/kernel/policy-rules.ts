/**
 * The policy as nftables rules: which connections are encrypted if possible, which only encrypted, which not at all.
 * Decided in the kernel, by the first SYN: what is clear costs a look at the rules and nothing else.
 *
 *   nft table inet tcpcrypt_policy
 *     outbound_policy, inbound_policy    the rules, first match wins; they mark the SYN: {@link MARK}
 *     the other chains                   what the marks mean, daemon or no daemon; see {@link policyTable}
 *
 * A table of its own, as it outlives a daemon that was killed where connections must stay refused: then it has
 * a chain named {@link KEEP}, empty, which tells the undo script to leave it. In no other case does it stay.
 */
import { ENO_KIND, has, hasNot, hex, IS_SYN, MARK, without } from './packet-marks.js';

export const POLICY_TABLE = 'tcpcrypt_policy';

/** What becomes of a connection: see docs/daemon.md. */
export type PolicyAction = 'clear' | 'private-or-clear' | 'private' | 'block';

/** From and to, inclusive. */
export type PortRange = readonly [first: number, last: number];

/** What is not mentioned matches all. Lists hold no overlaps: nft refuses them. */
export interface PolicyRule {
  readonly action: PolicyAction;
  /** The other end: CIDR, e.g. "10.0.0.0/8", "fd00::/8". */
  readonly networks?: { readonly ipv4: readonly string[]; readonly ipv6: readonly string[] };
  /** The port that the SYN is sent to. */
  readonly ports?: readonly PortRange[];
  /** This machine's port: outbound where the SYN comes from, inbound where it goes to. */
  readonly localPorts?: readonly PortRange[];
  /** Who owns the socket. Outbound only: nftables cannot tell for a SYN that comes in. */
  readonly uids?: readonly number[];
  /** Directories, absolute; processes in cgroups below count as well. */
  readonly cgroups?: readonly CgroupMatch[];
  /** Only connections that do not leave this machine. */
  readonly thisHost?: true;
}

export interface CgroupMatch {
  /** As nft wants it: relative to /sys/fs/cgroup. */
  readonly path: string;
  /** How far below the root of the hierarchy; 1 for its children. */
  readonly level: number;
}

export interface PolicyRules {
  /** In order; the last one matches all. */
  readonly outbound: readonly PolicyRule[];
  readonly inbound: readonly PolicyRule[];
}

type Direction = keyof PolicyRules;

/** In {@link POLICY_TABLE}: the table stays when the daemon is killed. */
export const KEEP = 'keep';
/** Rules for single commands (`tcpcrypt run`), before all others; a reload leaves them alone. */
export const COMMANDS = 'commands';
export const INBOUND_COMMANDS = 'inbound_commands';

/**
 * Empty: {@link commandRules} of each command refer to it, and what a rule refers to cannot be deleted. So whoever means to end
 * a daemon that is there for commands only deletes this first, which fails while there are any; and from then on rules for
 * further commands are refused.
 */
export const COMMANDS_IN_USE = 'commands_in_use';

/** What nft counts, by name: packets are SYN segments, each a connection attempt or its retransmission. */
export const POLICY_COUNTERS = [
  'blocked_outbound',
  'blocked_inbound',
  'refused_outbound',
  'refused_inbound',
] as const;

/** Destinations that the daemon leaves in peace: known-plain.ts fills them. The kernel bounds them as well. */
export const KNOWN_PLAIN_SETS = [
  { name: 'known_plain_ipv4', family: 'ipv4', type: 'ipv4_addr', protocol: 'ip' },
  { name: 'known_plain_ipv6', family: 'ipv6', type: 'ipv6_addr', protocol: 'ip6' },
] as const;
const KNOWN_PLAIN_LIMIT = 65_536;
/** What nft counts of the SYNs to them. */
export const KNOWN_PLAIN_COUNTER = 'known_plain';

/** What each action writes into the mark of a SYN. */
const ACTION_MARKS: Record<PolicyAction, number> = {
  clear: 0,
  'private-or-clear': MARK.ENCRYPT,
  private: MARK.ENCRYPT | MARK.PRIVATE,
  block: MARK.REFUSE,
};

const BITS = MARK.ENCRYPT | MARK.PRIVATE;

/** Not a SYN, of a connection whose handshake must show ENO and has not yet. */
const MUST_SHOW_ENO = `ct mark & ${hex(BITS | MARK.STEERED)} == ${hex(MARK.PRIVATE)} ct direction original tcp flags & (syn | rst) == 0`;

/** Whether connections must stay refused when there is no daemon. */
export const mustStay = ({ outbound, inbound }: PolicyRules): boolean =>
  [...outbound, ...inbound].some(({ action }) => action === 'private' || action === 'block');

/** Whether anything is to be encrypted. */
export const encryptsAnything = ({ outbound, inbound }: PolicyRules): boolean =>
  [...outbound, ...inbound].some(({ action }) => action === 'private' || action === 'private-or-clear');

/**
 * For `nft -f`: the whole table, in exchange for one that is there.
 *
 * Outbound, the policy is asked before the queue (priority of `raw`, -300) and, of what was released without the
 * mark REDIRECT, again after it: whatever happened in between, the daemon's death included, a SYN under `private`
 * goes no further. Its RST is made late, after the administrator's own rules: their connection tracking knows the SYN.
 *
 * What is to be encrypted if possible is not held where the daemon has put the destination into a set, as it would let the
 * SYN pass at once. The policy comes first: no set has a say about what is `private`.
 *
 * Programs that speak ENO themselves are not touched, but under `private` their handshake must show it: the first
 * segment after the SYN carries ENO if its sender encrypts (RFC 8547 §4.5), and so does the SYN-ACK.
 *
 * Inbound: -99 asks, -98 is the steering's, -97 refuses what should have been steered and was not; all after address
 * translation (-100), so that what is for a container now is not taken for ours, and before packets are routed.
 */
export const policyTable = (rules: PolicyRules): string => `
table inet ${POLICY_TABLE} {}
delete table inet ${POLICY_TABLE}
table inet ${POLICY_TABLE} {
${[...POLICY_COUNTERS, KNOWN_PLAIN_COUNTER].map((name) => `  counter ${name} {}\n`).join('')}
  ${mustStay(rules) ? `chain ${KEEP} {}` : ''}

  chain ${COMMANDS_IN_USE} {}
  chain ask_outbound {
    meta mark set ${without(BITS)}
    goto ${COMMANDS}
  }
  # Connections within this machine can be blocked. Encrypted they need not be: they do not leave it.
  chain outbound_decided {
    oifname "lo" meta mark set ${without(BITS)}
  }
  chain outbound_policy {
${chainRules(rules, 'outbound')}  }
  chain ${COMMANDS} {
    goto outbound_policy
  }
  chain before_queue_output {
    type filter hook output priority -301; policy accept;
    ${IS_SYN} ${hasNot(MARK.DAEMON_SOCKET)} jump before_queue
  }
  chain before_queue {
    jump ask_outbound
    # The policy wants it encrypted if possible, and nobody insists. (Who speaks ENO himself is not held anyway.)
    meta mark & ${hex(BITS | MARK.REFUSE | MARK.INSISTS)} == ${hex(MARK.ENCRYPT)} tcp option ${ENO_KIND} missing jump known_plain
  }
${KNOWN_PLAIN_SETS.map(
  ({ name, type }) => `  set ${name} {
    type ${type} . inet_service; flags timeout; size ${KNOWN_PLAIN_LIMIT};
  }
`,
).join('')}  chain known_plain {
${KNOWN_PLAIN_SETS.map(
  ({ name, protocol }) =>
    `    ${protocol} daddr . tcp dport @${name} counter name ${KNOWN_PLAIN_COUNTER} meta mark set ${without(BITS)}\n`,
).join('')}  }
  chain after_queue_output {
    type filter hook output priority -299; policy accept;
    ${IS_SYN} ${hasNot(MARK.DAEMON_SOCKET)} jump released
  }
  chain released {
    meta mark set ${without(MARK.INSISTS)}
    meta mark & ${hex(MARK.REFUSE | MARK.PRIVATE)} == ${hex(MARK.REFUSE | MARK.PRIVATE)} counter name refused_outbound
    ${has(MARK.REDIRECT | MARK.REFUSE)} meta mark set ${without(BITS)} return
    jump ask_outbound
    ${hasNot(MARK.PRIVATE)} meta mark set ${without(BITS)} return
    # Speaks ENO itself, and connection tracking will see what comes of it.
    ct state != untracked tcp option ${ENO_KIND} exists return
    counter name refused_outbound meta mark set ${without(BITS)} | ${hex(MARK.REFUSE)}
  }
  # Also what was to be redirected but was not, as that must not go out in plaintext.
  chain refuse_output {
    type filter hook output priority 10; policy accept;
    ${has(MARK.REFUSE)} meta l4proto tcp reject with tcp reset
    ${has(MARK.REDIRECT)} ${hasNot(MARK.LOCAL_DELIVERY)} meta l4proto tcp reject with tcp reset
  }

  chain inbound_policy {
${chainRules(rules, 'inbound')}  }
  chain ${INBOUND_COMMANDS} {
    goto inbound_policy
  }
  chain ask_prerouting {
    type filter hook prerouting priority -99; policy accept;
    ${IS_SYN} iifname != "lo" fib daddr type local jump ask_inbound
  }
  chain ask_inbound {
    meta mark set ${without(BITS)}
    jump ${INBOUND_COMMANDS}
    ${has(MARK.REFUSE)} reject with tcp reset
  }
  chain not_steered_prerouting {
    type filter hook prerouting priority -97; policy accept;
    ${IS_SYN} ${has(BITS)} iifname != "lo" jump not_steered
    ${MUST_SHOW_ENO} iifname != "lo" goto first_inbound
  }
  chain not_steered {
    ${has(MARK.PRIVATE)} jump private_not_steered
    meta mark set ${without(BITS)}
  }
  chain private_not_steered {
    ct state untracked goto refuse_inbound
    tcp option ${ENO_KIND} missing goto refuse_inbound
    # (This fails where there is no socket, or one in TIME_WAIT.)
    socket mark & ${hex(MARK.LISTENER_SPEAKS_ENO)} == 0 goto refuse_inbound
    ct mark set ct mark & ${hex(~(BITS | MARK.STEERED))} | ${hex(MARK.PRIVATE)}
  }
  chain refuse_inbound {
    counter name refused_inbound reject with tcp reset
  }

  # Programs that speak ENO themselves.
  chain speaks_eno_output {
    type filter hook output priority -199; policy accept;
    ${IS_SYN} ${has(MARK.PRIVATE)} ct mark set ct mark & ${hex(~BITS)} | ${hex(MARK.PRIVATE)} \\
      meta mark set ${without(BITS)} return
    ct mark & ${hex(MARK.PRIVATE | MARK.STEERED)} == ${hex(MARK.PRIVATE)} ct direction reply \\
      tcp flags & (syn | ack) == (syn | ack) tcp option ${ENO_KIND} missing counter name refused_inbound drop
    ${MUST_SHOW_ENO} goto first_outbound
  }
  chain first_outbound {
    tcp option ${ENO_KIND} exists ct mark set ct mark | ${hex(MARK.ENCRYPT)} return
    counter name refused_outbound meta mark set meta mark | ${hex(MARK.REFUSE)}
  }
  chain first_inbound {
    tcp option ${ENO_KIND} exists ct mark set ct mark | ${hex(MARK.ENCRYPT)} return
    counter name refused_inbound reject with tcp reset
  }
}
`;

/** For `nft -f`: other rules, at one stroke. Base chains stay, as packets in a queue are dropped when one goes. */
export const otherRules = (rules: PolicyRules): string => `
table inet ${POLICY_TABLE} { chain ${KEEP} {}; }
${mustStay(rules) ? '' : `delete chain inet ${POLICY_TABLE} ${KEEP}`}
flush chain inet ${POLICY_TABLE} outbound_policy
flush chain inet ${POLICY_TABLE} inbound_policy
${KNOWN_PLAIN_SETS.map(({ name }) => `flush set inet ${POLICY_TABLE} ${name}\n`).join('')}table inet ${POLICY_TABLE} {
  chain outbound_policy {
${chainRules(rules, 'outbound')}  }
  chain inbound_policy {
${chainRules(rules, 'inbound')}  }
}
`;

const chainRules = (rules: PolicyRules, direction: Direction): string =>
  rules[direction].flatMap((rule) => ruleText(rule, direction).map((line) => `    ${line}\n`)).join('');

/** One rule may take several of nft's: addresses of either family, each cgroup. */
export function ruleText(rule: PolicyRule, direction: Direction): string[] {
  const { action, networks, ports, localPorts, uids, cgroups, thisHost } = rule;
  const within = !thisHost ? '' : direction === 'outbound' ? 'oifname "lo" ' : 'iifname "lo" ';
  const peers = networks === undefined ? [''] : peerMatches(networks, direction);
  const groups = cgroups?.map(({ path, level }) => `socket cgroupv2 level ${level} "${path}" `) ?? [''];
  const port = ports === undefined ? '' : `tcp dport ${set(ports.map(range))} `;
  const side = direction === 'outbound' ? 'sport' : 'dport';
  const local = localPorts === undefined ? '' : `tcp ${side} ${set(localPorts.map(range))} `;
  const user = uids === undefined ? '' : `meta skuid ${set(uids.map(String))} `;
  const count = action === 'block' ? `counter name blocked_${direction} ` : '';
  const mark = action === 'clear' ? '' : `meta mark set meta mark | ${hex(ACTION_MARKS[action])} `;
  const verdict = direction === 'outbound' ? 'goto outbound_decided' : 'return';
  return peers.flatMap((peer) =>
    groups.map((group) => `${within}${peer}${port}${local}${user}${group}${count}${mark}${verdict}`),
  );
}

function peerMatches(
  { ipv4, ipv6 }: NonNullable<PolicyRule['networks']>,
  direction: Direction,
): readonly string[] {
  const side = direction === 'outbound' ? 'daddr' : 'saddr';
  return [
    ...(ipv4.length > 0 ? [`ip ${side} ${set(ipv4)} `] : []),
    ...(ipv6.length > 0 ? [`ip6 ${side} ${set(ipv6)} `] : []),
  ];
}

const set = (members: readonly string[]): string => `{ ${members.join(', ')} }`;
const range = ([first, last]: PortRange): string => (first === last ? `${first}` : `${first}-${last}`);
