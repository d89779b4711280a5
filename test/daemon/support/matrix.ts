/**
 * The fidelity matrix: the probes of ../fidelity.py, over native TCP or through daemons. A program must not be able to
 * tell that its connection is relayed, but for what docs/differences.md names.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Pair, type Place } from './pair.js';

export const FAMILIES = ['4', '6', 'mapped'] as const;
export type Family = (typeof FAMILIES)[number];

const PROBES = resolve('test/daemon/fidelity.py');
const TIMEOUT_MS = 60_000;
/** Ports of the probes: an own range for each family. */
const FIRST_PORT: Record<Family, number> = { '4': 8000, '6': 8100, mapped: 8200 };

/** What both ends saw, by probe. */
export type Observations = Record<string, { client?: string[]; server?: string[] }>;
export interface Findings {
  readonly saw: Observations;
  /** Numbers that are not compared. */
  readonly figures: Record<string, Record<string, number>>;
}

/** Addresses that nobody has, and what becomes of packets to them. */
const NOWHERE = {
  'host-unreachable': { '4': '192.0.2.1', '6': '2001:db8::1' },
  prohibited: { '4': '192.0.2.2', '6': '2001:db8::2' },
  silent: { '4': '192.0.2.3', '6': '2001:db8::3' },
  firewalled: { '4': '192.0.2.4', '6': '2001:db8::4' },
  'no-route': { '4': '192.0.2.5', '6': '2001:db8::5' },
} as const;

const hosts = (pair: Pair, version: '4' | '6'): Record<string, string> => {
  const { alice, bob } = pair;
  const own =
    version === '4'
      ? {
          client: alice.address4,
          server: bob.address4,
          client2: second(alice.address4),
          server2: second(bob.address4),
        }
      : {
          client: alice.address6,
          server: bob.address6,
          client2: second(alice.address6),
          server2: second(bob.address6),
        };
  const nowhere = Object.entries(NOWHERE).map(([name, addresses]) => [name, addresses[version]]);
  return { ...own, ...(Object.fromEntries(nowhere) as Record<string, string>) };
};

/** 10.69.1.1 → 10.69.1.2, fd69:1::1 → fd69:1::2 */
const second = (address: string): string => address.replace(/1$/, '2');

/** Two hosts with all that the probes need. */
export async function openMatrix(place: Place): Promise<Pair> {
  const pair = await Pair.open(place);
  const { alice, bob } = pair;
  const { router } = pair.lab;
  for (const [host, network] of [
    [alice, '4'],
    [alice, '6'],
    [bob, '4'],
    [bob, '6'],
  ] as const) {
    const address = network === '4' ? `${second(host.address4)}/24` : `${second(host.address6)}/64`;
    host.enter('ip', [
      'address',
      'add',
      address,
      'dev',
      'eth0',
      ...(network === '6' ? ['nodad', 'preferred_lft', '0'] : []),
    ]);
  }
  for (const version of ['4', '6'] as const) {
    const route = (
      host: { enter(command: string, args: readonly string[]): string },
      type: string,
      name: keyof typeof NOWHERE,
    ) => host.enter('ip', [`-${version}`, 'route', 'add', type, NOWHERE[name][version]]);
    route(router, 'blackhole', 'silent');
    route(alice, 'unreachable', 'no-route');
  }
  router.enter(
    'nft',
    ['-f', '-'],
    `table inet firewall {
    chain prerouting { type filter hook prerouting priority -300; policy accept;
      ip daddr ${NOWHERE['host-unreachable']['4']} reject with icmp host-unreachable
      ip6 daddr ${NOWHERE['host-unreachable']['6']} reject with icmpv6 addr-unreachable
      ip daddr ${NOWHERE.prohibited['4']} reject with icmp admin-prohibited
      ip6 daddr ${NOWHERE.prohibited['6']} reject with icmpv6 admin-prohibited
      ip daddr ${NOWHERE.firewalled['4']} meta l4proto tcp reject with tcp reset
      ip6 daddr ${NOWHERE.firewalled['6']} meta l4proto tcp reject with tcp reset
    }
  }`,
  );
  // Several ICMP messages in a second would be too many for a router's default.
  router.enter('sh', [
    '-c',
    'echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit',
  ]);
  for (const host of [alice, bob]) host.enter('sh', ['-c', 'echo 3 > /proc/sys/net/ipv4/tcp_fastopen']);
  return pair;
}

/** The names of all probes. */
export const probes = (): string[] =>
  JSON.parse(execFileSync('python3', [PROBES, 'list'], { encoding: 'utf8' })) as string[];

/** Runs the probes, all at once, or only some. */
export async function observe(pair: Pair, family: Family, only?: readonly string[]): Promise<Findings> {
  const directory = join(pair.lab.directory, `matrix-${family}-${Math.random().toString(36).slice(2)}`);
  mkdirSync(directory);
  const configuration = JSON.stringify({
    family,
    port: FIRST_PORT[family],
    directory,
    hosts: hosts(pair, family === '6' ? '6' : '4'),
    ...(only === undefined ? {} : { only }),
  });
  const run = async (host: typeof pair.alice, side: 'client' | 'server') => {
    const { stdout, stderr } = await host.run('python3', [PROBES, side, configuration], {
      timeoutMs: TIMEOUT_MS,
    });
    if (stderr !== '') throw new Error(`${side}: ${stderr}`);
    return JSON.parse(String(stdout)) as { saw: Record<string, string[]>; figures: Findings['figures'] };
  };
  const [server, client] = await Promise.all([run(pair.bob, 'server'), run(pair.alice, 'client')]);
  const saw: Observations = {};
  for (const name of Object.keys(client.saw))
    saw[name] = {
      client: client.saw[name] ?? [],
      ...(server.saw[name] === undefined ? {} : { server: server.saw[name] }),
    };
  return { saw, figures: { ...server.figures, ...client.figures } };
}
