/** One end of a TCP connection. */
import type { Socket as TcpSocket } from 'node:net';
import { tryGetpeername, tryGetsockname } from '../kernel/libc.js';
import { addressBytes, addressText, fromSockaddr } from '../kernel/sockaddr.js';
import { descriptorOf } from '../socket/transport.js';

export interface Endpoint {
  /** A literal address. */
  readonly address: string;
  readonly port: number;
}

/** Of a connection; undefined once it is gone. */
export const localEnd = (transport: TcpSocket): Endpoint | undefined =>
  ipv4(tryGetsockname(descriptorOf(transport))) ?? endpoint(transport.localAddress, transport.localPort);

export const remoteEnd = (transport: TcpSocket): Endpoint | undefined =>
  ipv4(tryGetpeername(descriptorOf(transport))) ?? endpoint(transport.remoteAddress, transport.remotePort);

/** IPv4 addresses have one text only, for which Node need not be asked, as it makes much of that. */
const ipv4 = (name: Buffer | number): Endpoint | undefined =>
  typeof name !== 'number' && name.length === 16 ? fromSockaddr(name) : undefined;

const endpoint = (address: string | undefined, port: number | undefined): Endpoint | undefined =>
  address === undefined || port === undefined ? undefined : { address, port };

/** "10.0.0.1:80", "[fd00::1]:80" (RFC 3986 §3.2.2). */
export const endpointText = ({ address, port }: Endpoint): string =>
  isSix(address) ? `[${address}]:${port}` : `${address}:${port}`;

export const familyOf = (address: string): 4 | 6 => (isSix(address) ? 6 : 4);

/** Of what is known to be an address: isIPv6() would look whether it is one. */
const isSix = (address: string): boolean => address.includes(':');

/** Texts of one address are equal in this form: Node and we abbreviate IPv6 addresses differently. */
export const canonical = (address: string): string =>
  isSix(address) ? addressText(addressBytes(address)) : address;

/** The network that a box on the path is likely to stand before: /24 of IPv4, /48 of IPv6 (RFC 6177's site). */
export function networkOf(address: string): string {
  const bytes = addressBytes(address);
  const kept = isSix(address) ? 6 : 15;
  return `${addressText(bytes.fill(0, kept))}/${isSix(address) ? 48 : 24}`;
}
