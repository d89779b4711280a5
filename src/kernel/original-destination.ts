/** Where a REDIRECTed connection wanted to go: SO_ORIGINAL_DST of netfilter's connection tracking. */
import * as libc from './libc.js';
import { addressText } from './sockaddr.js';

/** The same number in include/uapi/linux/netfilter_ipv4.h and …/netfilter_ipv6/ip6_tables.h. */
const SO_ORIGINAL_DST = 80;

/** @returns undefined when the connection was not redirected. */
export function originalDestination(fd: number): { address: string; port: number } | undefined {
  const four = libc.tryGetsockopt(fd, libc.SOL_IP, SO_ORIGINAL_DST, 16);
  if (typeof four !== 'number' && four.length >= 8) {
    return { address: four.subarray(4, 8).join('.'), port: four.readUInt16BE(2) };
  }
  const six = libc.tryGetsockopt(fd, libc.SOL_IPV6, SO_ORIGINAL_DST, 28);
  if (typeof six !== 'number' && six.length >= 24) {
    return { address: addressText(six.subarray(8, 24)), port: six.readUInt16BE(2) };
  }
  return undefined;
}
