/** One end of a TCP connection. */
import { addressBytes, addressText } from '../kernel/sockaddr.js';

export interface Endpoint {
  /** A literal address. */
  readonly address: string;
  readonly port: number;
}

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
