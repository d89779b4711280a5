/** A checked reader for the IP and TCP headers of one captured segment (RFC 791, RFC 8200, RFC 9293 §3.1). */
import { addressText } from './sockaddr.js';

export interface Segment {
  readonly family: 'ipv4' | 'ipv6';
  readonly source: string;
  readonly destination: string;
  /** DSCP and ECN: the TOS byte of IPv4, the traffic class of IPv6. */
  readonly trafficClass: number;
  /** TTL, or hop limit. */
  readonly hops: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Equal in a SYN and its retransmissions. */
  readonly sequence: number;
  /** ECE, CWR, PSH and URG are left out: an ECN SYN carries the first two and is a SYN like any other. */
  readonly flags: {
    readonly syn: boolean;
    readonly ack: boolean;
    readonly rst: boolean;
    readonly fin: boolean;
  };
  /** The area of the TCP options, a view into the packet. */
  readonly options: Uint8Array;
  /** Bytes of data that the segment carries by its IP header, captured or not. */
  readonly payloadLength: number;
}

const IPV4_HEADER_LENGTH = 20;
const IPV6_HEADER_LENGTH = 40;
const TCP_HEADER_LENGTH = 20;
const PROTOCOL_TCP = 6;
/** RFC 8200 §4: the extension headers that may stand before TCP, apart from the fragment header. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION_OPTIONS = 60;

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/**
 * Reads a packet that begins with its IP header and holds at least all headers; data may be cut off.
 * Undefined for everything that is not a whole TCP segment: other protocols, fragments, truncated headers,
 * lengths that contradict each other.
 */
export function readSegment(packet: Uint8Array): Segment | undefined {
  const view = Buffer.isBuffer(packet)
    ? packet
    : Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength);
  const ip = view.length === 0 ? undefined : view.readUInt8(0) >> 4 === 4 ? readIPv4(view) : readIPv6(view);
  if (ip === undefined || view.length < ip.headerLength + TCP_HEADER_LENGTH) return undefined;

  const tcp = ip.headerLength;
  const tcpHeaderLength = (view.readUInt8(tcp + 12) >> 4) * 4;
  const payloadLength = ip.totalLength - tcp - tcpHeaderLength;
  if (tcpHeaderLength < TCP_HEADER_LENGTH || tcp + tcpHeaderLength > view.length || payloadLength < 0)
    return undefined;

  const flags = view.readUInt8(tcp + 13);
  return {
    family: ip.family,
    source: ip.source,
    destination: ip.destination,
    trafficClass: ip.trafficClass,
    hops: ip.hops,
    sourcePort: view.readUInt16BE(tcp),
    destinationPort: view.readUInt16BE(tcp + 2),
    sequence: view.readUInt32BE(tcp + 4),
    flags: {
      syn: (flags & SYN) !== 0,
      ack: (flags & ACK) !== 0,
      rst: (flags & RST) !== 0,
      fin: (flags & FIN) !== 0,
    },
    options: view.subarray(tcp + TCP_HEADER_LENGTH, tcp + tcpHeaderLength),
    payloadLength,
  };
}

/** The contents, without kind and length, of the first TCP option of that kind; a broken list ends where it breaks. */
export function findOption({ options }: Segment, kind: number): Uint8Array | undefined {
  const END_OF_OPTIONS = 0;
  const NO_OPERATION = 1;
  for (let at = 0; at < options.length && options[at] !== END_OF_OPTIONS; ) {
    if (options[at] === NO_OPERATION) {
      at += 1;
      continue;
    }
    const length = options[at + 1];
    if (length === undefined || length < 2 || at + length > options.length) return undefined;
    if (options[at] === kind) return options.subarray(at + 2, at + length);
    at += length;
  }
  return undefined;
}

interface IpHeader {
  readonly family: 'ipv4' | 'ipv6';
  readonly source: string;
  readonly destination: string;
  readonly trafficClass: number;
  readonly hops: number;
  /** Up to the TCP header, extension headers included. */
  readonly headerLength: number;
  /** Of the whole packet as the IP header states it. */
  readonly totalLength: number;
}

function readIPv4(packet: Buffer): IpHeader | undefined {
  if (packet.length < IPV4_HEADER_LENGTH) return undefined;
  const headerLength = (packet.readUInt8(0) & 0x0f) * 4;
  // "More fragments" and the offset; "don't fragment" may be set or not.
  const fragment = packet.readUInt16BE(6) & 0x3fff;
  if (headerLength < IPV4_HEADER_LENGTH || fragment !== 0 || packet.readUInt8(9) !== PROTOCOL_TCP)
    return undefined;
  return {
    family: 'ipv4',
    source: ipv4Text(packet, 12),
    destination: ipv4Text(packet, 16),
    trafficClass: packet.readUInt8(1),
    hops: packet.readUInt8(8),
    headerLength,
    totalLength: packet.readUInt16BE(2),
  };
}

const ipv4Text = (packet: Buffer, at: number): string =>
  `${packet[at]}.${packet[at + 1]}.${packet[at + 2]}.${packet[at + 3]}`;

function readIPv6(packet: Buffer): IpHeader | undefined {
  if (packet.length < IPV6_HEADER_LENGTH || packet.readUInt8(0) >> 4 !== 6) return undefined;
  let next = packet.readUInt8(6);
  let headerLength = IPV6_HEADER_LENGTH;
  while (next === HOP_BY_HOP || next === ROUTING || next === DESTINATION_OPTIONS) {
    if (packet.length < headerLength + 2) return undefined;
    next = packet.readUInt8(headerLength);
    headerLength += (packet.readUInt8(headerLength + 1) + 1) * 8;
  }
  if (next !== PROTOCOL_TCP) return undefined;
  return {
    family: 'ipv6',
    source: addressText(packet.subarray(8, 24)),
    destination: addressText(packet.subarray(24, 40)),
    trafficClass: (packet.readUInt16BE(0) >> 4) & 0xff,
    hops: packet.readUInt8(7),
    headerLength,
    totalLength: IPV6_HEADER_LENGTH + packet.readUInt16BE(4),
  };
}
