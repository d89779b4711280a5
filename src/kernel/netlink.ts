/**
 * The netlink messages of NFQUEUE, one of connection tracking, and two of nftables (linux/netlink.h,
 * linux/netfilter/nfnetlink_queue.h, nfnetlink_conntrack.h, nf_tables.h).
 *
 * A datagram holds one or more messages, each padded to 4 bytes:
 *
 *   nlmsghdr   u32 length (header included) · u16 type · u16 flags · u32 sequence · u32 port      host order
 *   nfgenmsg   u8 address family · u8 version (0) · u16 resource: the queue number                big-endian
 *   attributes u16 length (these 4 bytes included) · u16 type, in host order · value, padded to 4
 *
 * Numbers in attribute values are big-endian. "Host order" is little-endian here, as in sockaddr.ts.
 */
import { AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_TCP } from './libc.js';
import type { Segment } from './segment.js';
import { addressBytes } from './sockaddr.js';

// linux/netlink.h
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 0x01;
const NLM_F_ACK = 0x04;
/** Flag bits of an attribute type: its value is a list of attributes; its value is in network byte order. */
const NLA_F_NESTED = 0x8000;
const NLA_F_NET_BYTEORDER = 0x4000;
const NLA_TYPE_MASK = ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER);

// linux/netfilter/nfnetlink.h: a message type is the subsystem and, below it, that subsystem's own number.
const NFNL_SUBSYS_QUEUE = 3 << 8;
const NFQNL_MSG_PACKET = NFNL_SUBSYS_QUEUE | 0;
const NFQNL_MSG_VERDICT = NFNL_SUBSYS_QUEUE | 1;
const NFQNL_MSG_CONFIG = NFNL_SUBSYS_QUEUE | 2;
const NFQNL_MSG_VERDICT_BATCH = NFNL_SUBSYS_QUEUE | 3;

// linux/netfilter/nfnetlink_queue.h
const NFQA_PACKET_HDR = 1;
const NFQA_VERDICT_HDR = 2;
const NFQA_MARK = 3;
const NFQA_PAYLOAD = 10;
const NFQA_UID = 16;
const NFQA_CFG_CMD = 1;
const NFQA_CFG_PARAMS = 2;
const NFQA_CFG_QUEUE_MAXLEN = 3;
const NFQA_CFG_MASK = 4;
const NFQA_CFG_FLAGS = 5;
const NFQNL_CFG_CMD_BIND = 1;
const NFQNL_CFG_CMD_UNBIND = 2;
const NFQNL_COPY_PACKET = 2;
/** A full queue lets further packets pass instead of dropping them. */
const NFQA_CFG_F_FAIL_OPEN = 1 << 0;
/** Packets come with the user and group of their socket. */
const NFQA_CFG_F_UID_GID = 1 << 3;

// linux/netfilter/nfnetlink_conntrack.h
const NFNL_SUBSYS_CTNETLINK = 1 << 8;
const IPCTNL_MSG_CT_DELETE = NFNL_SUBSYS_CTNETLINK | 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;

// linux/netfilter/nfnetlink.h: what changes tables comes between these two, and is done as a whole or not at all.
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
// linux/netfilter/nf_tables.h
const NFT_MSG_NEWTABLE = (NFNL_SUBSYS_NFTABLES << 8) | 0;
const NFT_MSG_GETTABLE = (NFNL_SUBSYS_NFTABLES << 8) | 1;
const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_FLAGS = 2;
const NFT_TABLE_F_OWNER = 0x2;
const NFPROTO_INET = 1;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;

export const NF_DROP = 0;
export const NF_ACCEPT = 1;

const NLMSGHDR_LENGTH = 16;
const NFGENMSG_LENGTH = 4;
const NLATTR_LENGTH = 4;

const align = (length: number): number => (length + 3) & ~3;

// --- What we send -----------------------------------------------------------------------------------------

export interface QueueConfiguration {
  readonly queue: number;
  /** How many bytes of each packet come to us. */
  readonly copyBytes: number;
  /** How many packets the kernel holds at most. */
  readonly maxHeld: number;
  /** What becomes of packets beyond that. */
  readonly whenFull: 'accept' | 'drop';
}

/**
 * Binds a queue to the socket that sends this. All settings ride in one message, as a queue that is bound
 * but has no copy mode yet drops what it gets. The kernel acknowledges.
 *
 *   CFG_CMD           u8 command · u8 0 · u16 protocol family (0, unused since Linux 3.8)
 *   CFG_PARAMS        u32 bytes to copy · u8 copy mode
 *   CFG_QUEUE_MAXLEN  u32;  CFG_FLAGS u32;  CFG_MASK u32: which flags are meant
 */
export function bindMessage(configuration: QueueConfiguration, sequence: number): Buffer {
  const { queue, copyBytes, maxHeld, whenFull } = configuration;
  const parameters = Buffer.alloc(5);
  parameters.writeUInt32BE(copyBytes, 0);
  parameters.writeUInt8(NFQNL_COPY_PACKET, 4);
  const flags = NFQA_CFG_F_UID_GID | (whenFull === 'accept' ? NFQA_CFG_F_FAIL_OPEN : 0);
  return message(NFQNL_MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, sequence, queue, [
    attribute(NFQA_CFG_CMD, Buffer.from([NFQNL_CFG_CMD_BIND, 0, 0, 0])),
    attribute(NFQA_CFG_PARAMS, parameters),
    attribute(NFQA_CFG_QUEUE_MAXLEN, uint32(maxHeld)),
    attribute(NFQA_CFG_FLAGS, uint32(flags)),
    attribute(NFQA_CFG_MASK, uint32(NFQA_CFG_F_UID_GID | NFQA_CFG_F_FAIL_OPEN)),
  ]);
}

/** Gives the queue back. The kernel drops what is still held. */
export function unbindMessage(queue: number): Buffer {
  return message(NFQNL_MSG_CONFIG, NLM_F_REQUEST, 0, queue, [
    attribute(NFQA_CFG_CMD, Buffer.from([NFQNL_CFG_CMD_UNBIND, 0, 0, 0])),
  ]);
}

/** What becomes of one packet: VERDICT_HDR is u32 verdict · u32 packet id. `mark` replaces the whole mark. */
export function verdictMessage(queue: number, verdict: number, id: number, mark: number | undefined): Buffer {
  const attributes = [attribute(NFQA_VERDICT_HDR, uint32(verdict, id))];
  if (mark !== undefined) attributes.push(attribute(NFQA_MARK, uint32(mark)));
  return message(NFQNL_MSG_VERDICT, NLM_F_REQUEST, 0, queue, attributes);
}

/** The same verdict for all held packets up to and including `lastId` (compared as signed difference). */
export function verdictBatchMessage(queue: number, verdict: number, lastId: number): Buffer {
  return message(NFQNL_MSG_VERDICT_BATCH, NLM_F_REQUEST, 0, queue, [
    attribute(NFQA_VERDICT_HDR, uint32(verdict, lastId)),
  ]);
}

/** Deletes what connection tracking remembers under the addresses and ports of `segment`. Answered only on failure. */
export function forgetConnectionMessage(
  segment: Pick<Segment, 'family' | 'source' | 'sourcePort' | 'destination' | 'destinationPort'>,
): Buffer {
  const v4 = segment.family === 'ipv4';
  const address = (host: string): Buffer => addressBytes(host).subarray(v4 ? 12 : 0);
  const tuple = nested(CTA_TUPLE_ORIG, [
    nested(CTA_TUPLE_IP, [
      attribute(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, address(segment.source)),
      attribute(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, address(segment.destination)),
    ]),
    nested(CTA_TUPLE_PROTO, [
      attribute(CTA_PROTO_NUM, Buffer.from([IPPROTO_TCP])),
      attribute(CTA_PROTO_SRC_PORT, uint16(segment.sourcePort)),
      attribute(CTA_PROTO_DST_PORT, uint16(segment.destinationPort)),
    ]),
  ]);
  return message(IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST, 0, 0, [tuple], v4 ? AF_INET : AF_INET6);
}

/**
 * Makes an nft table without content that belongs to the socket that sends this: nobody else can change or delete it, and
 * the kernel deletes it when that socket is closed. Acknowledged; EEXIST or EPERM when there is one of that name.
 */
export function ownTableMessages(name: string, sequence: number): Buffer {
  return Buffer.concat([
    message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, []),
    message(
      NFT_MSG_NEWTABLE,
      NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
      sequence,
      0,
      [tableName(name), attribute(NFTA_TABLE_FLAGS, uint32(NFT_TABLE_F_OWNER))],
      NFPROTO_INET,
    ),
    message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, []),
  ]);
}

/** Asks for a table. Acknowledged when there is one, after what there is to tell of it; ENOENT when not. */
export const tableMessage = (name: string, sequence: number): Buffer =>
  message(NFT_MSG_GETTABLE, NLM_F_REQUEST | NLM_F_ACK, sequence, 0, [tableName(name)], NFPROTO_INET);

const tableName = (name: string): Buffer => attribute(NFTA_TABLE_NAME, Buffer.from(`${name}\0`));

function message(
  type: number,
  flags: number,
  sequence: number,
  resource: number,
  attributes: readonly Buffer[],
  family = AF_UNSPEC,
): Buffer {
  const length = attributes.reduce((sum, a) => sum + a.length, NLMSGHDR_LENGTH + NFGENMSG_LENGTH);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.writeUInt8(family, NLMSGHDR_LENGTH);
  bytes.writeUInt16BE(resource, NLMSGHDR_LENGTH + 2);
  let offset = NLMSGHDR_LENGTH + NFGENMSG_LENGTH;
  for (const a of attributes) offset += a.copy(bytes, offset);
  return bytes;
}

function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(align(NLATTR_LENGTH + value.length));
  bytes.writeUInt16LE(NLATTR_LENGTH + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, NLATTR_LENGTH);
  return bytes;
}

const nested = (type: number, attributes: readonly Buffer[]): Buffer =>
  attribute(type | NLA_F_NESTED, Buffer.concat(attributes));

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value >>> 0, i * 4);
  });
  return bytes;
}

// --- What we receive --------------------------------------------------------------------------------------

export interface PacketMessage {
  readonly kind: 'packet';
  readonly id: number;
  readonly mark: number;
  /** The user whose socket sent it; undefined where the packet belongs to no local socket. */
  readonly uid: number | undefined;
  /** The packet from its IP header on, cut off at the configured length; a view into the datagram. */
  readonly payload: Buffer;
}

/** Acknowledgement (`errno` 0) or refusal (positive) of the message that we sent under `sequence`; verdicts have 0. */
export interface StatusMessage {
  readonly kind: 'status';
  readonly errno: number;
  readonly sequence: number;
}

export type NetlinkMessage = PacketMessage | StatusMessage;

/** The messages of one datagram. Messages of other types and ill-formed ones are left out: nothing to do about them. */
export function parseMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  let offset = 0;
  while (offset + NLMSGHDR_LENGTH <= datagram.length) {
    const length = datagram.readUInt32LE(offset);
    if (length < NLMSGHDR_LENGTH || offset + length > datagram.length) break;
    const type = datagram.readUInt16LE(offset + 4);
    const [start, end] = [offset + NLMSGHDR_LENGTH, offset + length];
    const parsed =
      type === NFQNL_MSG_PACKET
        ? parsePacket(datagram, start, end)
        : type === NLMSG_ERROR
          ? parseStatus(datagram, start, end)
          : undefined;
    if (parsed !== undefined) messages.push(parsed);
    offset += align(length);
  }
  return messages;
}

/** nlmsgerr: i32 error (0 or -errno) · the nlmsghdr that it answers. */
function parseStatus(datagram: Buffer, start: number, end: number): StatusMessage | undefined {
  if (end - start < 4 + NLMSGHDR_LENGTH) return undefined;
  return {
    kind: 'status',
    errno: -datagram.readInt32LE(start),
    sequence: datagram.readUInt32LE(start + 4 + 8),
  };
}

/** PACKET_HDR is u32 packet id · u16 ethertype · u8 hook; MARK and UID are u32, absent where there is none. */
function parsePacket(datagram: Buffer, start: number, end: number): PacketMessage | undefined {
  let id: number | undefined;
  let mark = 0;
  let uid: number | undefined;
  let payload: Buffer | undefined;
  let offset = start + NFGENMSG_LENGTH;
  while (offset + NLATTR_LENGTH <= end) {
    const length = datagram.readUInt16LE(offset);
    if (length < NLATTR_LENGTH || offset + length > end) return undefined;
    const value = offset + NLATTR_LENGTH;
    const type = datagram.readUInt16LE(offset + 2) & NLA_TYPE_MASK;
    if (type === NFQA_PAYLOAD) payload = datagram.subarray(value, offset + length);
    else if (length >= NLATTR_LENGTH + 4) {
      if (type === NFQA_PACKET_HDR) id = datagram.readUInt32BE(value);
      else if (type === NFQA_MARK) mark = datagram.readUInt32BE(value);
      else if (type === NFQA_UID) uid = datagram.readUInt32BE(value);
    }
    offset += align(length);
  }
  if (id === undefined) return undefined;
  return { kind: 'packet', id, mark, uid, payload: payload ?? NOTHING };
}

const NOTHING = Buffer.alloc(0);
