/** Networks, as CIDR (RFC 4632, RFC 4291 §2.3). */
import { isIP } from 'node:net';
import { addressBytes, addressText } from '../../kernel/sockaddr.js';

export interface Network {
  readonly family: 4 | 6;
  /** 16 bytes, IPv4 as IPv4-mapped IPv6; host bits are zero. */
  readonly address: Uint8Array;
  /** Of 128 bits. */
  readonly prefix: number;
}

const MAPPED = 96;

/** "10.0.0.0/8", "fd00::/8", or an address alone. IPv4-mapped IPv6 is IPv4, as it is on the wire. */
export function parseNetwork(text: string): Network | undefined {
  const [, host = '', length] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  if (isIP(host) === 0 || host.includes('%')) return undefined;
  const bytes = addressBytes(host);
  const offset = isIP(host) === 4 ? MAPPED : 0;
  const prefix = length === undefined ? 128 : offset + Number(length);
  if (prefix > 128) return undefined;
  const mapped = prefix >= MAPPED && !addressText(bytes).includes(':');
  return { family: mapped ? 4 : 6, address: masked(bytes, prefix), prefix };
}

export const networkText = ({ family, address, prefix }: Network): string =>
  `${addressText(address)}/${family === 4 ? prefix - MAPPED : prefix}`;

/** Whether `inner` is a part of `outer`, or the same. */
export const contains = (outer: Network, inner: Network): boolean =>
  outer.family === inner.family &&
  outer.prefix <= inner.prefix &&
  Buffer.compare(masked(inner.address, outer.prefix), outer.address) === 0;

/** Without those that are parts of others. */
export const disjoint = (networks: readonly Network[]): Network[] =>
  networks.filter(
    (one, i) =>
      !networks.some((other, j) => i !== j && contains(other, one) && (j < i || !contains(one, other))),
  );

const masked = (bytes: Uint8Array, prefix: number): Uint8Array =>
  Uint8Array.from(bytes, (byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - i * 8))) & 0xff);
