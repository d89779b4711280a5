/**
 * The firewall rules and routes that bring handshakes of unmodified programs to the daemon, and their exact
 * inverse. Established connections of others never meet a rule of ours that does more than look at a mark.
 *
 * What there is while installed, all in the network namespace of this process:
 *
 *   nft table inet tcpcrypt_policy    which SYNs are ours at all, and what is refused, see policy-rules.ts
 *   iptables/ip6tables, table raw     one rule: outbound SYNs that are to be encrypted are held in an NFQUEUE;
 *                                     with several workers, one rule and one queue for each
 *   nft table inet tcpcrypt           everything else, see {@link ruleset}
 *   ip rule, ip route (v4 and v6)     packets with mark LOCAL_DELIVERY go to this machine, whatever their address
 *
 * One rule needs iptables, as not every kernel has the nft expression "queue". It stands in `raw` and at the
 * end of it: there, a SYN is held before connection tracking and before the administrator's own rules in
 * `mangle`, `nat` and `filter`, so it traverses all of those, once, after the verdict. (A verdict ends the
 * chain that asked for it: in `mangle`, a rule of ours would hide the SYN from the rules after it.) What the
 * administrator exempts from connection tracking in `raw` cannot be redirected, and is left alone.
 *
 * If the daemon dies, nothing hangs: no queue, and `--queue-bypass` lets SYNs pass; no transparent listener,
 * and `tproxy` lets them pass to the real server. What must not pass then is for the policy's table to refuse.
 */
import { existsSync, readFileSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { ENO_KIND, has, hasNot, hex, IS_SYN, MARK, without } from './packet-marks.js';
import {
  KNOWN_PLAIN_COUNTER,
  otherRules,
  POLICY_COUNTERS,
  POLICY_TABLE,
  type PolicyRules,
  policyTable,
} from './policy-rules.js';
import { checkShareCount, type SharePattern, sharePattern } from './shares.js';
import {
  createdChain,
  createdTable,
  FAMILIES,
  type Family,
  LOCAL_ROUTE,
  LOCAL_RULE,
  NAME,
  QUEUE_CHAIN,
  QUEUE_TABLE,
} from './steering-names.js';
import { run } from './tools.js';
import { type UninstallOptions, uninstallScript } from './uninstall-script.js';

/** Where the connections with a part of all other hosts go: to one process of the daemon. */
export interface Share {
  /** The NFQUEUE that gets outbound SYNs. Without a process at the queue they pass. */
  readonly queue: number;
  /**
   * Where SYNs with mark REDIRECT go: a listener on 127.0.0.1 and ::1 with IP_TRANSPARENT. The local address of
   * what it accepts is the destination that the application meant.
   */
  readonly relayPort: number;
  /**
   * Where inbound SYNs with ENO go: a listener on 127.0.0.1 and ::1 with IP_TRANSPARENT. The local address of
   * what it accepts is the destination that the client meant.
   */
  readonly inboundPort: number;
  /** The same for SYNs that the policy says are `private`: what is accepted there must be encrypted. */
  readonly privatePort: number;
}

export interface SteeringOptions extends Share {
  /**
   * Further processes; together with the first, a power of two. Which one it is, the last bits of the other host's
   * address tell, see shares.ts: in both directions the same one, as what it remembers of that host is of use there.
   */
  readonly others?: readonly Share[];
  readonly policy: PolicyRules;
  /** Default: whether this network namespace has IPv6. */
  readonly ipv6?: boolean;
}

/**
 * Steering, installed. The order that lets no SYN hang: open the queue, listen on both ports, start a Guard
 * with {@link uninstallScript}, then install; at the end close the queue first.
 */
export class Steering {
  /**
   * Installs all rules and routes, or none. What a daemon that was killed left behind is removed first.
   * @throws ERR_TCPCRYPT_PERMISSION without CAP_NET_ADMIN; ERR_TCPCRYPT_KERNEL_FEATURE, with the words of the
   * tool, when a tool is missing or refuses.
   */
  static install(options: SteeringOptions): Steering {
    const shares = [options, ...(options.others ?? [])];
    checkShares(shares);
    const families = FAMILIES.filter((f) => f.name === 'ipv4' || (options.ipv6 ?? hasIPv6()));
    // What a killed daemon left in force stays so until the new policy takes its place.
    const inForce = exists('table', 'inet', POLICY_TABLE);
    Steering.removeLeftovers({ butWhatRefuses: true });
    try {
      run('nft', ['-f', '-'], policyTable(options.policy) + ruleset(options, families));
      for (const family of families) {
        run('ip', [family.ip, 'route', 'add', ...LOCAL_ROUTE]);
        run('ip', [family.ip, 'rule', 'add', ...LOCAL_RULE]);
      }
      // Last, as from here on packets are held.
      for (const family of families)
        for (const [index, share] of shares.entries())
          run(family.iptables, queueRule(share, sharePattern(family.name, index, shares.length)));
    } catch (error) {
      Steering.removeLeftovers({ butWhatRefuses: inForce });
      throw error;
    }
    return new Steering(families, shares.length);
  }

  /**
   * Removes everything of ours from this network namespace, whoever installed it; says what there was.
   * @throws ERR_TCPCRYPT_PERMISSION, ERR_TCPCRYPT_KERNEL_FEATURE when something of ours refuses to go.
   */
  static removeLeftovers(options: UninstallOptions = {}): string[] {
    return run('/bin/sh', ['-s'], uninstallScript(options)).split('\n').filter(Boolean);
  }

  readonly #families: readonly Family[];
  readonly #shares: number;

  private constructor(families: readonly Family[], shares: number) {
    this.#families = families;
    this.#shares = shares;
  }

  /** What somebody else has deleted of ours: 'tables' that legs on this machine cannot do without, or the 'queue' rule. */
  get missing(): 'tables' | 'queue' | undefined {
    const tables = run('nft', ['list', 'tables']).split('\n');
    if (![NAME, POLICY_TABLE].every((table) => tables.includes(`table inet ${table}`))) return 'tables';
    const queued = ({ iptables }: Family): boolean =>
      run(iptables, ['-w', '-t', QUEUE_TABLE, '-S', QUEUE_CHAIN]).split(`--comment ${NAME} `).length >
      this.#shares;
    return this.#families.every(queued) ? undefined : 'queue';
  }

  /**
   * Another policy, at one stroke; connections that exist and SYNs that are held are not affected.
   * @throws ERR_TCPCRYPT_KERNEL_FEATURE, with the words of nft; the former policy is in force then.
   */
  setPolicy(policy: PolicyRules): void {
    run('nft', ['-f', '-'], otherRules(policy));
  }

  /** SYNs that the rules themselves have refused, daemon or no daemon, and let pass as their destination is known to be plain. */
  get counts(): RuleCounts {
    const { nftables } = JSON.parse(
      run('nft', ['-j', 'list', 'counters', 'table', 'inet', POLICY_TABLE]),
    ) as {
      nftables: { counter?: { name: string; packets: number } }[];
    };
    const packets = (name: string): number =>
      nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
    const refused = Object.fromEntries(POLICY_COUNTERS.map((name) => [name, packets(name)]));
    return { refused: refused as RuleCounts['refused'], knownPlain: packets(KNOWN_PLAIN_COUNTER) };
  }

  /** Inbound SYNs go to their servers by themselves from now on, or are refused; connections are not affected. */
  stopSteering(): void {
    run('nft', ['flush', 'chain', 'inet', NAME, 'steer']);
  }

  /** The exact inverse of {@link install}. Packets that an NfQueue still holds may be dropped: close it first. */
  uninstall(): void {
    Steering.removeLeftovers();
  }
}

export interface RuleCounts {
  readonly refused: Readonly<Record<(typeof POLICY_COUNTERS)[number], number>>;
  readonly knownPlain: number;
}

/** Holds the first SYN of outbound connections that the policy wants encrypted. */
function queueRule({ queue }: Share, pattern: SharePattern | undefined): string[] {
  return [
    ...['-w', '-t', QUEUE_TABLE, '-A', QUEUE_CHAIN],
    ...(pattern === undefined ? [] : ['-d', `${pattern.value}/${pattern.mask}`]),
    ...['!', '-o', 'lo', '-p', 'tcp'],
    ...['-m', 'mark', '--mark', `${hex(MARK.ENCRYPT)}/${hex(MARK.ENCRYPT | MARK.DAEMON_SOCKET)}`],
    // ECE and CWR are not looked at: an ECN SYN carries both.
    ...['--tcp-flags', 'FIN,SYN,RST,ACK', 'SYN'],
    // Programs that speak ENO themselves.
    ...['!', '--tcp-option', String(ENO_KIND)],
    ...['-m', 'conntrack', '!', '--ctstate', 'UNTRACKED'],
    ...['-m', 'comment', '--comment', NAME],
    ...['-j', 'NFQUEUE', '--queue-num', String(queue), '--queue-bypass'],
  ];
}

/**
 * Our nft table.
 *
 * The leg to the local server: the daemon, having accepted a steered connection, connects to the real server
 * on this machine from the client's address (IP_TRANSPARENT), so that the server sees its client. What the
 * server answers is addressed to the client and would leave the machine; connection tracking knows that it
 * belongs to this leg, and the mark routes it back to the daemon's socket.
 *
 * The leg to a local application is its mirror image: what the application sends is addressed to the far host,
 * and the mark routes it to the daemon's socket, which has the far host's address. No address is translated: with
 * a REDIRECT to one port of 127.0.0.1, two connections from one source port (to different servers, which is usual)
 * would collide, also when the first is long in TIME_WAIT.
 *
 * All packets of this host come by, so each rule first asks what is cheap and false for most of them: flags and marks
 * before the name of an interface. Here and in policy-rules.ts that is a quarter of what the rules cost a packet.
 */
function ruleset(options: SteeringOptions, families: readonly Family[]): string {
  const shares = [options, ...(options.others ?? [])];
  const ours = shares.flatMap(({ relayPort, inboundPort, privatePort }) => [
    ...new Set([relayPort, inboundPort, privatePort]),
  ]);
  const rule = (f: Family, far: 'saddr' | 'daddr', index: number, port: number, and: string): string => {
    const pattern = sharePattern(f.name, index, shares.length);
    const host = pattern === undefined ? '' : `${f.nft} ${far} & ${pattern.mask} == ${pattern.value} `;
    return `    meta nfproto ${f.name} ${host}meta l4proto tcp tproxy ${f.nft} to ${f.loopback}:${port} ${and}accept\n`;
  };
  const tproxyTo = (far: 'saddr' | 'daddr', port: (share: Share) => number, and = ''): string =>
    families.flatMap((f) => shares.map((share, index) => rule(f, far, index, port(share), and))).join('');
  return `
table inet ${NAME} {
${families.map(createdMemo).join('')}
  # Verdict REDIRECT: the SYN comes back by the loopback interface, see below, and goes to the relay.
  chain redirect_prerouting {
    type filter hook prerouting priority -150; policy accept;
    ${IS_SYN} ${has(MARK.REDIRECT)} iifname "lo" jump to_relay
  }
  chain to_relay {
${tproxyTo('daddr', (share) => share.relayPort)}    # No listener: it is gone.
    meta l4proto tcp reject with tcp reset
  }

  # Inbound SYNs that carry ENO, to a listening socket of this machine that does not negotiate ENO itself.
  # Where there is no such socket, all tests of it fail. What is found in TIME_WAIT, the remains of an earlier
  # connection from the same port, has no mark any more: then the port's last listener decides.
  # After address translation (-100): what is for another host now, e.g. a container whose port is published, is not
  # ours, though a proxy may listen on that port here.
  chain steer_prerouting {
    type filter hook prerouting priority -98; policy accept;
    ${IS_SYN} ${has(MARK.ENCRYPT)} iifname != "lo" tcp option ${ENO_KIND} exists \\
      tcp dport != { ${ours.join(', ')} } jump steer_syn
    # What follows such a SYN finds its socket by itself, but for the ACK that answers a SYN cookie.
    ct mark & ${hex(MARK.STEERED)} != 0 ct direction original \\
      iifname != "lo" tcp flags & (syn | rst | ack) == ack jump steer_ack
  }
  set ports_that_speak_eno {
    type inet_service; flags dynamic; size 65536;
  }
  chain steer_syn {
    socket mark & ${hex(MARK.LISTENER_SPEAKS_ENO)} == 0 delete @ports_that_speak_eno { tcp dport } jump steer
    socket mark & ${hex(MARK.LISTENER_SPEAKS_ENO)} != 0 add @ports_that_speak_eno { tcp dport } return
    socket transparent 1 jump steer
    socket transparent 0 tcp dport != @ports_that_speak_eno jump steer
  }
  # Without a transparent listener, tproxy does nothing and the SYN goes on to the real server, or is refused.
  chain steer {
    ${has(MARK.PRIVATE)} goto steer_private
${tproxyTo('saddr', (share) => share.inboundPort, `ct mark set ct mark & ${hex(~POLICY)} | ${hex(MARK.STEERED)} meta mark set ${without(POLICY)} `)}  }
  chain steer_private {
${tproxyTo('saddr', (share) => share.privatePort, `ct mark set ct mark | ${hex(MARK.STEERED | MARK.PRIVATE)} meta mark set ${without(POLICY)} `)}  }
  chain steer_ack {
    ct mark & ${hex(MARK.PRIVATE)} != 0 goto steer_ack_private
${tproxyTo('saddr', (share) => share.inboundPort)}  }
  chain steer_ack_private {
${tproxyTo('saddr', (share) => share.privatePort)}  }

  # Legs on this machine: remembered before, and their packets marked after, the mangle chains of others (-150).
  chain remember_leg_output {
    type filter hook output priority -151; policy accept;
    ${has(MARK.LOCAL_DELIVERY)} ct direction original ct mark set ct mark | ${hex(MARK.LOCAL_DELIVERY)}
    ${has(MARK.REDIRECT)} ct direction original ct mark set ct mark | ${hex(MARK.REDIRECT)}
  }
  # Nor shall others translate their addresses (masquerade what a container's network sends anywhere else, redirect a
  # service's address to its host): what is translated already, if only to itself, is not translated again.
  chain keep_destination_output {
    type nat hook output priority -101; policy accept;
${keepAddress(families, 'dnat', 'daddr')}  }
  chain keep_source_postrouting {
    type nat hook postrouting priority 99; policy accept;
${keepAddress(families, 'snat', 'saddr')}  }
  chain route_leg_output {
    type route hook output priority -149; policy accept;
    ct mark & ${hex(MARK.LOCAL_DELIVERY)} != 0 ct direction reply meta mark set meta mark | ${hex(MARK.LOCAL_DELIVERY)}
    # (Not the daemon's own: it may use the port of an application that has just ended.)
    ct mark & ${hex(MARK.REDIRECT)} != 0 ct direction original ${hasNot(MARK.DAEMON_SOCKET)} \\
      meta mark set meta mark | ${hex(MARK.LOCAL_DELIVERY)}
  }
}
`;
}

const keepAddress = (families: readonly Family[], how: 'dnat' | 'snat', address: 'daddr' | 'saddr'): string =>
  families
    .map(
      (f) =>
        `    meta nfproto ${f.name} ct mark & ${hex(MARK.LOCAL_DELIVERY | MARK.REDIRECT)} != 0 ${how} ${f.nft} to ${f.nft} ${address}\n`,
    )
    .join('');

const POLICY = MARK.ENCRYPT | MARK.PRIVATE;

/** Remembers what iptables is about to create; see {@link uninstallScript}. */
function createdMemo({ nft }: Family): string {
  if (!exists('table', nft, QUEUE_TABLE)) return `  chain ${createdTable(nft)} {}\n`;
  if (!exists('chain', nft, QUEUE_TABLE, QUEUE_CHAIN)) return `  chain ${createdChain(nft)} {}\n`;
  return '';
}

function exists(...what: string[]): boolean {
  try {
    run('nft', ['list', ...what]);
    return true;
  } catch {
    return false;
  }
}

/** Whether IPv6 is compiled in and not switched off for `lo`, where our route goes. */
export function hasIPv6(): boolean {
  const disabled = '/proc/sys/net/ipv6/conf/lo/disable_ipv6';
  return existsSync(disabled) && readFileSync(disabled, 'utf8').trim() === '0';
}

function checkShares(shares: readonly Share[]): void {
  checkShareCount(shares.length);
  for (const { queue, relayPort, inboundPort, privatePort } of shares) {
    for (const port of [relayPort, inboundPort, privatePort])
      if (!Number.isInteger(port) || port < 1 || port > 0xffff)
        throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `not a port: ${port}` });
    if (!Number.isInteger(queue) || queue < 0 || queue > 0xffff)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `not a queue number: ${queue}` });
  }
}
