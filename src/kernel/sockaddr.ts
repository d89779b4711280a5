/** `struct sockaddr_in` and `struct sockaddr_in6` (ip(7), ipv6(7)), host byte order little-endian. */
import { isIPv6 } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { AF_INET, AF_INET6 } from './libc.js';

/** An address in the form that `bind(2)` and `connect(2)` want. `host` is a literal address; `%scope` is not supported. */
export function sockaddr(host: string, port: number): Buffer {
  const ipv4 = Buffer.alloc(16);
  if (writeIPv4(host, ipv4, 4)) {
    ipv4.writeUInt16LE(AF_INET, 0);
    ipv4.writeUInt16BE(port, 2);
    return ipv4;
  }
  const ipv6 = Buffer.alloc(28);
  ipv6.writeUInt16LE(AF_INET6, 0);
  ipv6.writeUInt16BE(port, 2);
  writeAddress(host, ipv6, 8);
  return ipv6;
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
  if (family === AF_INET) return { address: `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}`, port };
  if (family === AF_INET6 && bytes.length >= 24) return { address: addressText(bytes.subarray(8, 24)), port };
  return undefined;
}

/** 16 bytes for either family; IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
export function addressBytes(host: string): Buffer {
  const bytes = Buffer.alloc(16);
  writeAddress(host, bytes, 0);
  return bytes;
}

/** The same into `bytes`, at `at`. */
export function writeAddress(host: string, bytes: Buffer, at: number): void {
  bytes.fill(0, at, at + 16);
  if (writeIPv4(host, bytes, at + 12)) bytes.writeUInt16BE(0xffff, at + 10);
  else writeIPv6(host, bytes, at);
}

const DOT = '.'.charCodeAt(0);
const ZERO = '0'.charCodeAt(0);

/**
 * Four bytes; false, with nothing of meaning written, unless `host` is a dotted quad. Accepts what isIPv4() of node:net
 * accepts, without its regular expression: this is done several times for every connection that the daemon carries.
 */
function writeIPv4(host: string, bytes: Uint8Array, at: number): boolean {
  let parts = 0;
  let part = 0;
  let digits = 0;
  for (let i = 0; i <= host.length; i++) {
    const character = i < host.length ? host.charCodeAt(i) : DOT;
    if (character === DOT) {
      if (digits === 0 || parts === 4) return false;
      bytes[at + parts++] = part;
      part = 0;
      digits = 0;
      continue;
    }
    const digit = character - ZERO;
    // No zero before other digits: some programs read octal numbers there.
    if (digit < 0 || digit > 9 || (digits > 0 && part === 0)) return false;
    digits++;
    part = part * 10 + digit;
    if (part > 255) return false;
  }
  return parts === 4;
}

function writeIPv6(host: string, bytes: Buffer, at: number): void {
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
    bytes.writeUInt16BE(group, at + i * 2);
  });
  const last = tail === undefined ? [] : groups(tail);
  last.forEach((group, i) => {
    bytes.writeUInt16BE(group, at + 16 - (last.length - i) * 2);
  });
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

/** Writes an address in its own family's form: 4 or 16 bytes. */
export function writeOwnForm(host: string, target: Buffer, at: number): void {
  if (host.includes(':')) writeAddress(host, target, at);
  else writeIPv4(host, target, at);
}
