/** All rules and routes of a host that somebody could have left there or taken away. */
import type { Host } from '#src/lab/host.js';

const TOOLS: readonly (readonly [tool: string, ...args: string[]])[] = [
  ['nft', 'list', 'ruleset'],
  ['iptables-save'],
  ['ip6tables-save'],
  ['ip', 'rule'],
  ['ip', '-6', 'rule'],
  ['ip', 'route', 'show', 'table', 'all'],
  ['ip', '-6', 'route', 'show', 'table', 'all'],
];

export const rulesOf = (host: Host): string =>
  TOOLS.map(([tool, ...args]) => host.enter(tool, args))
    .join('\n')
    .replace(/^#.*$/gm, '')
    // What the kernel counts, and addresses that it adds to an interface when it likes.
    .replace(/\[\d+:\d+\]|packets \d+ bytes \d+/g, '')
    .replace(/^(local |multicast |)fe80:.*\n|^(local|multicast|unicast) ff00:.*\n/gm, '');
