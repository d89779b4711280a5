/** What a bad path does to segments of either direction, in the router: this kernel may have no "netem". */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Host } from '#src/lab/host.js';
import type { Lab } from '#src/lab/lab.js';
import { killGroup } from '#src/lab/netns.js';

export interface Roughness {
  /** Percent of segments, whole ones of the size of the MTU. */
  readonly loss?: number;
  /** Milliseconds that each segment waits, and up to so many more: so they overtake each other. */
  readonly delay?: number;
  readonly jitter?: number;
  /** Percent that come twice. */
  readonly duplicates?: number;
  /** Rules of nftables, at the hook "forward". */
  readonly rules?: readonly string[];
  /** Bytes of a packet between router and hosts; IPv6 wants 1280. */
  readonly mtu?: number;
  /** Bytes of every socket's buffers on the hosts, as the kernel counts them. */
  readonly buffers?: number;
  readonly seed?: number;
}

const QUEUE = 4711;
const program = fileURLToPath(new URL('./rough-wire-program.js', import.meta.url));

/** From now on the path between these hosts is like that. @returns the undo */
export async function roughen(lab: Lab, hosts: readonly Host[], how: Roughness): Promise<() => void> {
  const { loss = 0, delay = 0, jitter = 0, duplicates = 0, rules = [], mtu, buffers, seed = 1 } = how;
  const { router } = lab;
  const undo: (() => unknown)[] = [];
  if (loss > 0 || delay > 0 || jitter > 0) {
    const held = router.spawn(
      process.execPath,
      [program, `${QUEUE}`, JSON.stringify({ loss, delay, jitter, seed })],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await once(held.stdout ?? held, 'data');
    const rule = ['FORWARD', '-p', 'tcp', '-j', 'NFQUEUE', '--queue-num', `${QUEUE}`];
    for (const tool of ['iptables', 'ip6tables']) {
      router.enter(tool, ['-A', ...rule]);
      undo.push(() => router.enter(tool, ['-D', ...rule]));
    }
    undo.push(() => killGroup(held));
  }
  const again = hosts.flatMap(({ address4, address6, routerInterface }) => [
    `ip daddr ${address4} numgen random mod 100 < ${duplicates} dup to ${address4} device "${routerInterface}"`,
    `ip6 daddr ${address6} numgen random mod 100 < ${duplicates} dup to ${address6} device "${routerInterface}"`,
  ]);
  const forward = ['chain forward { type filter hook forward priority -200;', ...rules, '}'];
  for (const [i, family] of ['ip', 'ip6'].entries()) {
    const twice = duplicates === 0 ? [] : again.filter((_, j) => j % 2 === i);
    const lines = ['chain twice { type filter hook prerouting priority -200;', ...twice, '}'];
    router.enter('nft', ['-f', '-'], `table ${family} rough {\n${[...lines, ...forward].join('\n')}\n}\n`);
    undo.push(() => router.enter('nft', ['delete', 'table', family, 'rough']));
  }
  const set = (where: typeof router | Host, ...words: string[]): unknown => where.enter('ip', words);
  if (mtu !== undefined)
    for (const host of hosts) {
      const change = (to: number): void => {
        set(host, 'link', 'set', 'eth0', 'mtu', `${to}`);
        set(router, 'link', 'set', host.routerInterface, 'mtu', `${to}`);
      };
      change(mtu);
      undo.push(() => change(1500));
    }
  if (buffers !== undefined)
    for (const host of hosts)
      for (const name of ['tcp_rmem', 'tcp_wmem']) {
        const file = `/proc/sys/net/ipv4/${name}`;
        const before = host.enter('cat', [file]).trim();
        const write = (value: string): unknown => host.enter('sh', ['-c', `echo '${value}' > ${file}`]);
        write(`${buffers} ${buffers} ${buffers}`);
        undo.push(() => write(before));
      }
  return () => {
    for (const step of undo.reverse()) step();
  };
}
