/** What the kernel asks the daemon, and what it does not need to ask. */
import assert from 'node:assert/strict';
import { DEFAULT_QUEUE } from '#src/daemon/daemon.js';
import { KNOWN_PLAIN_SETS, POLICY_TABLE } from '#src/kernel/policy-rules.js';
import { MAX_SHARES } from '#src/kernel/shares.js';
import type { Host } from '#src/lab/host.js';
import { eventually } from './pair.js';

/** SYNs that the daemon, or its workers, were asked about since they came: the last but one column of the kernel's table of queues. */
export function queued(host: Host): number {
  const table = host.enter('cat', ['/proc/net/netfilter/nfnetlink_queue']);
  const rows = table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([number]) => Number(number) >= DEFAULT_QUEUE && Number(number) < DEFAULT_QUEUE + MAX_SHARES);
  assert.ok(rows.length > 0, table);
  return rows.reduce((sum, row) => sum + Number(row.at(-2)), 0);
}

/** Destinations that the kernel knows as plain, as "address . port", with the seconds that each is there. */
export function knownPlain(host: Host): Map<string, number> {
  const elements = KNOWN_PLAIN_SETS.flatMap(({ name }) => {
    const { nftables } = JSON.parse(
      host.enter('nft', ['-j', 'list', 'set', 'inet', POLICY_TABLE, name]),
    ) as NftSets;
    return nftables.flatMap(({ set }) => set?.elem ?? []).map(({ elem }) => elem);
  });
  return new Map(elements.map(({ val, timeout }) => [val.concat.join(' . '), timeout]));
}

interface NftSets {
  readonly nftables: {
    readonly set?: {
      readonly elem?: {
        readonly elem: { readonly val: { readonly concat: (string | number)[] }; readonly timeout: number };
      }[];
    };
  }[];
}

export const untilKnownPlain = (host: Host, address: string, port: number): Promise<void> =>
  eventually(() => assert.ok(knownPlain(host).has(`${address} . ${port}`)));
