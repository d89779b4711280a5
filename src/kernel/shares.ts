/**
 * Which of several workers a host belongs to: the last bits of its address tell. So the rules can say it as well, nothing
 * is shared, and one host always meets the same worker, whoever opens the connection: there are the sessions to resume
 * with it, and there is remembered what the path to it is like.
 *
 *     4 workers    192.0.2.6  → 6 & 3 = 2        2001:db8::1 → 1 & 3 = 1
 */
import { TcpcryptError } from '../errors.js';
import { addressBytes } from './sockaddr.js';

/** Tuned by us: one rule for each in both families, and at most the last byte. */
export const MAX_SHARES = 16;

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function checkShareCount(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > MAX_SHARES || (count & (count - 1)) !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `workers: a power of two, at most ${MAX_SHARES}, and not ${count}`,
    });
}

/** The largest number of workers that does not exceed `wanted`. */
export const largestShareCount = (wanted: number): number =>
  2 ** Math.floor(Math.log2(Math.min(Math.max(1, wanted), MAX_SHARES)));

/** @param address literal; an IPv4-mapped one counts as IPv4, which has the same last byte */
export const shareOf = (address: string, count: number): number =>
  (addressBytes(address).at(-1) ?? 0) & (count - 1);

/** `address & mask == value`, in words that nft and iptables understand. */
export interface SharePattern {
  readonly mask: string;
  readonly value: string;
}

/** Undefined: all addresses. */
export function sharePattern(
  family: 'ipv4' | 'ipv6',
  index: number,
  count: number,
): SharePattern | undefined {
  if (count === 1) return undefined;
  const bits = (value: number): string => (family === 'ipv4' ? `0.0.0.${value}` : `::${value.toString(16)}`);
  return { mask: bits(count - 1), value: bits(index) };
}
