/**
 * A checked reader for classic capture files (pcap, Ethernet): the TCP segments in them, over IPv4 and IPv6.
 *
 * It serves as evidence ("option 69 is in the SYN", "no plaintext on the wire"), therefore it does not skip
 * what it cannot read: a truncated or malformed TCP segment, or a fragment, is an error. What is not TCP over
 * IP is left out.
 */
import { SocketAddress } from 'node:net';
import { TcpcryptError } from '../errors.js';

export interface CapturedSegment {
  /** Seconds since 1970. */
  readonly time: number;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  /** As tcpdump writes them: letters of "FSRP.UEW", where "." is ACK, E is ECE and W is CWR. */
  readonly flags: string;
  /** The option area of the TCP header. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
}

/** One end of a connection; without `port`, any port. */
export interface Endpoint {
  readonly address: string;
  readonly port?: number;
}

/** The first segment of a connection, with or without ECN flags. */
export const isSyn = (segment: CapturedSegment): boolean =>
  segment.flags.includes('S') && !segment.flags.includes('.');

/** The answer to a SYN, with or without ECN flags. */
export const isSynAck = (segment: CapturedSegment): boolean =>
  segment.flags.includes('S') && segment.flags.includes('.');

/**
 * The TCP segments of a capture file.
 * @throws ERR_TCPCRYPT_CAPTURE when the file or a TCP segment in it is truncated or malformed.
 */
export function parsePcap(file: Uint8Array): CapturedSegment[] {
  const { packets, littleEndian, ticksPerSecond } = fileHeader(new Reader(file));
  const segments: CapturedSegment[] = [];
  while (packets.left > 0) {
    // ts_sec(4) ts_fraction(4) incl_len(4) orig_len(4), then incl_len bytes
    const seconds = packets.u32(littleEndian);
    const time = seconds + packets.u32(littleEndian) / ticksPerSecond;
    const captured = packets.u32(littleEndian);
    const original = packets.u32(littleEndian);
    const segment = parseEthernet(packets.take(captured), original - captured, time);
    if (segment !== undefined) segments.push(segment);
  }
  return segments;
}

/** The contents (without kind and length) of the first option of that kind, undefined when there is none. */
export function findOption(options: Uint8Array, kind: number): Uint8Array | undefined {
  const END_OF_OPTIONS = 0;
  const NO_OPERATION = 1;
  let offset = 0;
  for (;;) {
    const found = options[offset];
    if (found === undefined || found === END_OF_OPTIONS) return undefined;
    if (found === NO_OPERATION) {
      offset += 1;
      continue;
    }
    const length = options[offset + 1];
    if (length === undefined || length < 2 || offset + length > options.length) return undefined;
    if (found === kind) return options.subarray(offset + 2, offset + length);
    offset += length;
  }
}

/**
 * What one end of a connection sent to the other, in the order of the sequence numbers; of bytes that were sent
 * twice, the first.
 * @throws ERR_TCPCRYPT_ARGUMENT when several connections match, ERR_TCPCRYPT_CAPTURE when bytes are missing.
 */
export function streamBytes(segments: readonly CapturedSegment[], from: Endpoint, to: Endpoint): Buffer {
  const sent = segments.filter(
    (segment) =>
      matches(from, segment.source, segment.sourcePort) &&
      matches(to, segment.destination, segment.destinationPort),
  );
  const first = sent[0];
  if (first === undefined) return Buffer.alloc(0);
  const starts = new Set(sent.filter(isAnySyn).map((segment) => segment.seq));
  const ports = new Set(sent.map((segment) => `${segment.sourcePort} ${segment.destinationPort}`));
  if (ports.size > 1 || starts.size > 1)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'several connections match: give the ports' });

  // Offsets from the first byte of data; a SYN occupies one sequence number before it.
  const [syn] = starts;
  const distance = (seq: number) => (seq - first.seq) | 0;
  const start =
    syn === undefined ? Math.min(...sent.map(({ seq }) => distance(seq))) : distance((syn + 1) >>> 0);
  const chunks = sent
    .filter(({ payload }) => payload.length > 0)
    .map((segment) => ({
      offset: distance(segment.seq) + (isAnySyn(segment) ? 1 : 0) - start,
      payload: segment.payload,
    }))
    .sort((a, b) => a.offset - b.offset);
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const { offset, payload } of chunks) {
    if (offset > end)
      throw new TcpcryptError('ERR_TCPCRYPT_CAPTURE', { detail: `${offset - end} bytes missing at ${end}` });
    const fresh = payload.subarray(end - offset);
    parts.push(fresh);
    end += fresh.length;
  }
  return Buffer.concat(parts);
}

const isAnySyn = (segment: CapturedSegment): boolean => segment.flags.includes('S');

const matches = (endpoint: Endpoint, address: string, port: number): boolean =>
  endpoint.address === address && (endpoint.port === undefined || endpoint.port === port);

/** magic(4) version(2+2) zone(4) accuracy(4) snaplen(4) linktype(4) */
function fileHeader(file: Reader): { packets: Reader; littleEndian: boolean; ticksPerSecond: number } {
  const MICROSECONDS = 0xa1b2c3d4;
  const NANOSECONDS = 0xa1b23c4d;
  const LINKTYPE_ETHERNET = 1;
  const magic = file.take(4);
  for (const littleEndian of [true, false]) {
    const value = new Reader(magic).u32(littleEndian);
    if (value !== MICROSECONDS && value !== NANOSECONDS) continue;
    file.take(16);
    // The upper bits may describe a frame check sequence.
    const linkType = file.u32(littleEndian) & 0xffff;
    if (linkType !== LINKTYPE_ETHERNET) throw malformed(`link type ${linkType}, not Ethernet`);
    return { packets: file, littleEndian, ticksPerSecond: value === MICROSECONDS ? 1e6 : 1e9 };
  }
  throw malformed('not a pcap file');
}

interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly tcp: Reader;
}

function parseEthernet(frame: Reader, missing: number, time: number): CapturedSegment | undefined {
  const ETHERTYPE_IPV4 = 0x0800;
  const ETHERTYPE_IPV6 = 0x86dd;
  if (frame.left < 14) return undefined;
  frame.take(12);
  const type = frame.u16();
  const parse = type === ETHERTYPE_IPV4 ? parseIpv4 : type === ETHERTYPE_IPV6 ? parseIpv6 : undefined;
  if (parse === undefined) return undefined;
  if (missing > 0) throw malformed(`${missing} bytes of a packet were not captured`);
  const packet = parse(frame);
  return packet && parseTcp(packet, time);
}

const PROTOCOL_TCP = 6;

function parseIpv4(frame: Reader): Packet | undefined {
  const FRAGMENT = 0x3fff; // offset, and the flag that more follow
  const ip = frame.clone();
  const first = ip.u8();
  const headerLength = (first & 0x0f) * 4;
  if (first >> 4 !== 4 || headerLength < 20) throw malformed('IPv4 header');
  ip.take(1);
  const totalLength = ip.u16();
  ip.take(2);
  const fragment = ip.u16() & FRAGMENT;
  ip.take(1);
  const protocol = ip.u8();
  if (protocol !== PROTOCOL_TCP) return undefined;
  if (fragment !== 0) throw malformed('fragment of an IPv4 packet');
  ip.take(2);
  const source = ip.take(4).rest().join('.');
  const destination = ip.take(4).rest().join('.');
  // Zero: a packet beyond 64 KiB, before the network card cuts it (BIG TCP).
  const packet = totalLength === 0 ? frame : frame.take(totalLength);
  packet.take(headerLength);
  return { source, destination, tcp: packet };
}

function parseIpv6(ip: Reader): Packet | undefined {
  const HOP_BY_HOP = 0;
  const ROUTING = 43;
  const FRAGMENT = 44;
  const DESTINATION_OPTIONS = 60;
  if (ip.u8() >> 4 !== 6) throw malformed('IPv6 header');
  ip.take(3);
  const payloadLength = ip.u16();
  let next = ip.u8();
  ip.take(1);
  const source = address6(ip.take(16));
  const destination = address6(ip.take(16));
  const payload = payloadLength === 0 ? ip : ip.take(payloadLength);
  while (next === HOP_BY_HOP || next === ROUTING || next === DESTINATION_OPTIONS) {
    next = payload.u8();
    payload.take(payload.u8() * 8 + 6);
  }
  if (next === FRAGMENT) throw malformed('fragment of an IPv6 packet');
  return next === PROTOCOL_TCP ? { source, destination, tcp: payload } : undefined;
}

/** The canonical text of RFC 5952. */
function address6(bytes: Reader): string {
  const groups = Array.from({ length: 8 }, () => bytes.u16().toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

/** In the order of the bits, FIN first. */
const FLAG_LETTERS = 'FSRP.UEW';

function parseTcp({ source, destination, tcp }: Packet, time: number): CapturedSegment {
  const FIXED_HEADER = 20;
  const sourcePort = tcp.u16();
  const destinationPort = tcp.u16();
  const seq = tcp.u32(false);
  const ack = tcp.u32(false);
  const headerLength = (tcp.u8() >> 4) * 4;
  const bits = tcp.u8();
  if (headerLength < FIXED_HEADER) throw malformed('TCP data offset');
  tcp.take(6); // window, checksum, urgent pointer
  const options = tcp.take(headerLength - FIXED_HEADER).rest();
  const flags = [...FLAG_LETTERS].filter((_, bit) => bits & (1 << bit)).join('');
  const payload = tcp.rest();
  return { time, source, sourcePort, destination, destinationPort, seq, ack, flags, options, payload };
}

const malformed = (detail: string) => new TcpcryptError('ERR_TCPCRYPT_CAPTURE', { detail });

/** Reads forward and cannot run past the end. Numbers are big-endian unless told otherwise. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array | Reader) {
    this.#bytes = bytes instanceof Reader ? bytes.rest() : bytes;
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  clone(): Reader {
    return new Reader(this);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(littleEndian: boolean): number {
    return this.#view.getUint32(this.#advance(4), littleEndian);
  }

  take(length: number): Reader {
    const start = this.#advance(length);
    return new Reader(this.#bytes.subarray(start, start + length));
  }

  /** What is left, without reading it. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#offset);
  }

  #advance(length: number): number {
    if (length > this.left) throw malformed(`${length} bytes expected, ${this.left} left`);
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}
