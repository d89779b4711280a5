/** `struct sockaddr_in` and `struct sockaddr_in6` (ip(7), ipv6(7)), host byte order little-endian. */
import { isIPv4, isIPv6 } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { AF_INET, AF_INET6 } from './libc.js';

/** An address in the form that `bind(2)` and `connect(2)` want. `host` is a literal address; `%scope` is not supported. */
export function sockaddr(host: string, port: number): Buffer {
  if (isIPv4(host)) {
    const address = Buffer.alloc(16);
    address.writeUInt16LE(AF_INET, 0);
    address.writeUInt16BE(port, 2);
    addressBytes(host).copy(address, 4, 12);
    return address;
  }
  const address = Buffer.alloc(28);
  address.writeUInt16LE(AF_INET6, 0);
  address.writeUInt16BE(port, 2);
  addressBytes(host).copy(address, 8);
  return address;
}

export interface SocketAddress {
  readonly address: string;
  readonly port: number;
}

/** The reverse of {@link sockaddr}: undefined for other families. IPv4-mapped addresses as plain IPv4. */
export function fromSockaddr(bytes: Buffer): SocketAddress | undefined {
  if (bytes.length < 8) return undefined;
  const family = bytes.readUInt16LE(0);
  const port = bytes.readUInt16BE(2);
  if (family === AF_INET) return { address: bytes.subarray(4, 8).join('.'), port };
  if (family === AF_INET6 && bytes.length >= 24) return { address: addressText(bytes.subarray(8, 24)), port };
  return undefined;
}

const DOT = '.'.charCodeAt(0);
const ZERO = '0'.charCodeAt(0);

/** 16 bytes for either family; IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
export function addressBytes(host: string): Buffer {
  const bytes = Buffer.alloc(16);
  if (isIPv4(host)) {
    bytes.writeUInt16BE(0xffff, 10);
    // Not by split(): this is done several times for every connection that the daemon carries.
    let at = 12;
    let part = 0;
    for (let i = 0; i < host.length; i++) {
      const character = host.charCodeAt(i);
      if (character === DOT) {
        bytes[at++] = part;
        part = 0;
      } else part = part * 10 + character - ZERO;
    }
    bytes[at] = part;
    return bytes;
  }
  if (!isIPv6(host))
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `not an IP address: ${host}` });
  const mapped = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(host);
  let text = host;
  if (mapped?.[1] !== undefined && mapped[2] !== undefined) {
    const v4 = addressBytes(mapped[2]);
    text = `${mapped[1]}${v4.readUInt16BE(12).toString(16)}:${v4.readUInt16BE(14).toString(16)}`;
  }
  const [head = '', tail] = text.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16));
  groups(head).forEach((group, i) => {
    bytes.writeUInt16BE(group, i * 2);
  });
  const last = tail === undefined ? [] : groups(tail);
  last.forEach((group, i) => {
    bytes.writeUInt16BE(group, 16 - (last.length - i) * 2);
  });
  return bytes;
}

/** The reverse of {@link addressBytes}: 16 bytes as text; IPv4-mapped addresses as plain IPv4. */
export function addressText(bytes: Uint8Array): string {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.readBigUInt64BE(0) === 0n && view.readUInt32BE(8) === 0xffff)
    return view.subarray(12, 16).join('.');
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(view.readUInt16BE(i).toString(16));
  return groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

/** Writes an address, known to be one, in its own family's form: 4 or 16 bytes. */
export function writeOwnForm(host: string, target: Uint8Array, at: number): void {
  if (host.includes(':')) {
    target.set(addressBytes(host), at);
    return;
  }
  let place = at;
  let part = 0;
  for (let i = 0; i < host.length; i++) {
    const character = host.charCodeAt(i);
    if (character === DOT) {
      target[place++] = part;
      part = 0;
    } else part = part * 10 + character - ZERO;
  }
  target[place] = part;
}
