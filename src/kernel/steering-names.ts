/** How what steering installs is named, so that whoever removes it finds it. */
import { hex, MARK } from './packet-marks.js';

/** The nft table and, as its comment, the iptables rule bear this name. */
export const NAME = 'tcpcrypt';
/** The iptables table of the one rule, and its chain. */
export const QUEUE_TABLE = 'raw';
export const QUEUE_CHAIN = 'OUTPUT';
/** Number of our routing table, after RFC 8547, and priority of the rule that leads to it: right after `local` (0). */
export const ROUTING_TABLE = 8547;
export const RULE_PRIORITY = 69;

export const FAMILIES = [
  { name: 'ipv4', nft: 'ip', ip: '-4', iptables: 'iptables', loopback: '127.0.0.1' },
  { name: 'ipv6', nft: 'ip6', ip: '-6', iptables: 'ip6tables', loopback: '[::1]' },
] as const;
export type Family = (typeof FAMILIES)[number];

export const createdTable = (nftFamily: string): string => `created_table_${nftFamily}_${QUEUE_TABLE}`;
export const createdChain = (nftFamily: string): string => `created_chain_${nftFamily}_${QUEUE_TABLE}`;

export const LOCAL_ROUTE = ['local', 'default', 'dev', 'lo', 'table', String(ROUTING_TABLE)];
export const LOCAL_RULE = [
  ...['priority', String(RULE_PRIORITY)],
  ...['fwmark', `${hex(MARK.LOCAL_DELIVERY)}/${hex(MARK.LOCAL_DELIVERY)}`],
  ...['lookup', String(ROUTING_TABLE)],
];
