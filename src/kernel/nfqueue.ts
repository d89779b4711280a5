/**
 * Packets that a firewall rule (`-j NFQUEUE`) holds until we give a verdict: in this project the first SYN
 * of a connection, never data.
 *
 * The kernel holds a packet for as long as it takes. It is released by a verdict; it is dropped when the
 * queue is unbound or its socket closes (also by SIGKILL), and the sender's TCP then sends it again after a
 * second, this time past the queue (`--queue-bypass`).
 */
import { readFileSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import {
  AF_NETLINK,
  close,
  EBUSY,
  EINVAL,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
  MSG_DONTWAIT,
  NETLINK_NETFILTER,
  NETLINK_NO_ENOBUFS,
  SO_MEMINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_NETLINK,
  SOL_SOCKET,
  setsockopt,
  socket,
  systemError,
  tryGetsockopt,
  tryRecv,
  trySend,
} from './libc.js';
import {
  bindMessage,
  type NetlinkMessage,
  NF_ACCEPT,
  NF_DROP,
  parseMessages,
  type QueueConfiguration,
  unbindMessage,
  verdictBatchMessage,
} from './netlink.js';
import { ForgetConnection, Verdicts } from './netlink-templates.js';
import { readSegment, type Segment } from './segment.js';
import { WatchedDatagrams } from './watched-datagrams.js';

/** A packet that waits for {@link NfQueue.accept} or {@link NfQueue.drop}. */
export interface HeldPacket {
  readonly id: number;
  /** The packet's mark. Other programs own other bits of it: a new mark is this one with our bits added. */
  readonly mark: number;
  /** The user who owns the socket that sent it. */
  readonly uid: number | undefined;
  /** Undefined where it is none, or not whole. Its `options` change when the handler returns. */
  readonly segment: Segment | undefined;
}

export interface NfQueueOptions {
  /** The number of the queue, 0 to 65535, in the network namespace of this process. */
  readonly queue: number;
  readonly onPacket: (packet: HeldPacket) => void;
  /** The queue broke and is closed. Packets pass by the rule's `--queue-bypass` from now on. */
  readonly onError: (error: TcpcryptError) => void;
  /** How many bytes of each packet are wanted. All headers of a SYN fit into the default. */
  readonly copyBytes?: number;
  /** How many packets are held at most. */
  readonly maxHeld?: number;
  /** What becomes of packets beyond `maxHeld`: sent on without a verdict, or dropped (to be sent again). */
  readonly whenFull?: 'accept' | 'drop';
}

export interface NfQueueCounters {
  /** Packets that were given to `onPacket`. */
  readonly received: number;
  /** How often the socket's buffer was too small; the kernel then did with packets as when the queue is full. */
  readonly overruns: number;
}

/** IPv6 header 40, TCP header with options 60, and room for some extension headers. */
const DEFAULT_COPY_BYTES = 160;
const DEFAULT_MAX_HELD = 4096;
/** Room for `maxHeld` packets; a short packet takes about a kilobyte of kernel memory. */
const RECEIVE_BUFFER_PER_PACKET = 1024;
const LEAST_RECEIVE_BUFFER = 65_536;
/** The longest datagram: headers and attributes (under 200 bytes) and the copied part of the packet. */
const DATAGRAM_OVERHEAD = 1024;
/** Far enough ahead that no held packet has a higher id, near enough to be "ahead" in a signed comparison. */
const ALL_IDS_AHEAD = 0x3fffffff;
/** So many SYNs, and up to as many before them, are remembered, to tell one that is sent again. */
const RECENT_SYNS = 2048;
/** The sequence number of what binds; all else that we send has 0. */
const BIND = 1;

/** One queue, bound to this process. Works for IPv4 and IPv6 alike. */
export class NfQueue {
  readonly #queue: number;
  readonly #options: NfQueueOptions;
  readonly #datagram: Buffer;
  readonly #watched: WatchedDatagrams;
  readonly #ended: Promise<void>;
  readonly #verdicts: Verdicts;
  /** To connection tracking, which answers when there is nothing to forget: mostly. */
  readonly #tracking: number;
  readonly #forget = new ForgetConnection();
  /** By sequence number, which is random, and port. */
  #recent = new Set<number>();
  #lessRecent: ReadonlySet<number> = new Set();
  readonly #onExit = (): void => this.#beginClose();
  #closing = false;
  #failure: unknown;
  #lastId = 0;
  #received = 0;
  #overruns = 0;

  /**
   * Binds the queue; from now on its packets come here.
   * @throws ERR_TCPCRYPT_PERMISSION without CAP_NET_ADMIN; ERR_TCPCRYPT_SYSTEM when another process has
   * bound this queue; ERR_TCPCRYPT_KERNEL_FEATURE when this kernel has no NFQUEUE.
   */
  static open(options: NfQueueOptions): NfQueue {
    return new NfQueue(options);
  }

  private constructor(options: NfQueueOptions) {
    const {
      queue,
      copyBytes = DEFAULT_COPY_BYTES,
      maxHeld = DEFAULT_MAX_HELD,
      whenFull = 'accept',
    } = options;
    if (!Number.isInteger(queue) || queue < 0 || queue > 0xffff)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `not a queue number: ${queue}` });
    this.#queue = queue;
    this.#options = options;
    this.#verdicts = new Verdicts(queue);
    this.#datagram = Buffer.alloc(DATAGRAM_OVERHEAD + copyBytes);
    const netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
    let early: readonly NetlinkMessage[];
    try {
      early = this.#bind(netlink, { queue, copyBytes, maxHeld, whenFull });
      this.#tracking = socketWithoutAnswers();
    } catch (error) {
      close(netlink);
      throw error;
    }
    this.#watched = new WatchedDatagrams(netlink, this.#datagram, (length) =>
      this.#handOver(parseMessages(this.#datagram.subarray(0, length))),
    );
    this.#ended = this.#watched.closed.then((error) => {
      const expected = this.#closing;
      this.#closing = true;
      close(this.#tracking);
      process.off('exit', this.#onExit);
      const failure = this.#failure ?? error ?? (expected ? undefined : new Error('the socket ended'));
      if (failure !== undefined) options.onError(asError(failure, queue));
    });
    // Held packets shall go on their way at once also when the process ends without a word.
    process.once('exit', this.#onExit);
    // Not before open() has returned.
    if (early.length > 0) queueMicrotask(() => this.#handOver(early));
  }

  get counters(): NfQueueCounters {
    if (!this.#closing) this.#overruns = overrunsOf(this.#watched.descriptor);
    return { received: this.#received, overruns: this.#overruns };
  }

  /** Lets the packet go on its way, with a new mark where one is given. A packet that is gone is ignored. */
  accept(id: number, mark?: number): void {
    this.#send(this.#verdicts.on(id, NF_ACCEPT, mark));
  }

  /** Discards the packet; its sender will repeat it after about a second. */
  drop(id: number): void {
    this.#send(this.#verdicts.on(id, NF_DROP));
  }

  /**
   * Accepts everything that is held, known to us or not, and unbinds the queue. Resolves when the socket is
   * closed. Packets that arrive between the two steps are dropped by the kernel and sent again by their senders.
   */
  close(): Promise<void> {
    this.#beginClose();
    return this.#ended;
  }

  /** @returns packets that have come in meanwhile */
  #bind(netlink: number, configuration: QueueConfiguration): NetlinkMessage[] {
    // Without CAP_NET_ADMIN this is the first call that fails.
    const bufferBytes = Math.max(configuration.maxHeld * RECEIVE_BUFFER_PER_PACKET, LEAST_RECEIVE_BUFFER);
    setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes);
    // An overrun is counted, and no error of the next recv(2), which would end the socket.
    setsockopt(netlink, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);

    const sent = trySend(netlink, bindMessage(configuration, BIND));
    if (sent < 0) throw systemError('send to netlink', -sent);
    // The kernel does its work within send(2): the answer is already there, perhaps after a first packet.
    const early: NetlinkMessage[] = [];
    for (;;) {
      const length = tryRecv(netlink, this.#datagram, MSG_DONTWAIT);
      if (length < 0) throw systemError('recv from netlink', -length);
      for (const message of parseMessages(Buffer.from(this.#datagram.subarray(0, length)))) {
        if (message.kind === 'packet') early.push(message);
        else if (message.sequence !== BIND) continue;
        else if (message.errno === 0) return early;
        else throw bindError(configuration.queue, message.errno);
      }
    }
  }

  #handOver(messages: readonly NetlinkMessage[]): void {
    try {
      for (const message of messages) if (!this.#closing) this.#handle(message);
    } catch (error) {
      this.#failure = error;
      this.#beginClose();
    }
  }

  #handle(message: NetlinkMessage): void {
    if (message.kind === 'status') {
      // ENOENT: a verdict on a packet that is gone, e.g. because its interface went down.
      if (message.errno !== 0 && message.errno !== ENOENT) throw systemError('NFQUEUE', message.errno);
      return;
    }
    this.#received++;
    this.#lastId = message.id;
    const { id, mark, uid, payload } = message;
    const segment = readSegment(payload);
    if (segment?.flags.syn && !segment.flags.ack) this.#forgetFormerConnection(segment);
    this.#options.onPacket({ id, mark, uid, segment });
  }

  /**
   * Connection tracking remembers a connection that was reset for ten seconds, and takes a SYN from the same
   * port for a part of it in some cases (the server's segment was the last one): address translation would
   * follow the verdict on the former connection and ignore this one's.
   */
  #forgetFormerConnection(segment: Segment): void {
    // A SYN that was sent again may belong to the connection that its elder just made.
    const syn = segment.sequence * 65_536 + segment.sourcePort;
    if (this.#recent.has(syn) || this.#lessRecent.has(syn)) return;
    this.#recent.add(syn);
    if (this.#recent.size >= RECENT_SYNS) {
      this.#lessRecent = this.#recent;
      this.#recent = new Set();
    }
    trySend(this.#tracking, this.#forget.of(segment)); // this kernel may have no ctnetlink
  }

  #beginClose(): void {
    if (this.#closing) return;
    const { descriptor } = this.#watched;
    this.#overruns = overrunsOf(descriptor);
    this.#closing = true;
    trySend(descriptor, verdictBatchMessage(this.#queue, NF_ACCEPT, (this.#lastId + ALL_IDS_AHEAD) >>> 0));
    trySend(descriptor, unbindMessage(this.#queue));
    this.#watched.close();
  }

  #send(message: Uint8Array): void {
    // After close there is nothing left to decide: the kernel has accepted everything.
    if (this.#closing) return;
    const sent = trySend(this.#watched.descriptor, message);
    if (sent < 0) throw systemError('send to netlink', -sent);
  }
}

/** What the kernel answers finds no room after the first ones, and is dropped, without a word. */
function socketWithoutAnswers(): number {
  const netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  setsockopt(netlink, SOL_SOCKET, SO_RCVBUF, 0); // the least that there is
  setsockopt(netlink, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
  return netlink;
}

const asError = (cause: unknown, queue: number): TcpcryptError =>
  cause instanceof TcpcryptError
    ? cause
    : new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `queue ${queue}`, cause });

/** How many datagrams had no room: SK_MEMINFO_DROPS, the ninth number of SO_MEMINFO (Linux 4.12). */
function overrunsOf(descriptor: number): number {
  const numbers = tryGetsockopt(descriptor, SOL_SOCKET, SO_MEMINFO, 36);
  return typeof numbers === 'number' || numbers.length < 36 ? 0 : numbers.readUInt32LE(32);
}

function bindError(queue: number, errno: number): TcpcryptError {
  // The kernel says EPERM also when the queue belongs to somebody else.
  const owner = errno === EPERM || errno === EBUSY ? ownerOf(queue) : undefined;
  if (owner !== undefined) return inUse(queue, owner);
  if (errno === EINVAL || errno === EOPNOTSUPP)
    return new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
      detail: 'NFQUEUE: CONFIG_NETFILTER_NETLINK_QUEUE (modprobe nfnetlink_queue)',
    });
  return systemError(`bind NFQUEUE number ${queue}`, errno);
}

/**
 * For whoever opens it later, without the right to see whose it is.
 * @throws ERR_TCPCRYPT_SYSTEM when another process has bound it
 */
export function checkQueueFree(queue: number): void {
  const owner = ownerOf(queue);
  if (owner !== undefined) throw inUse(queue, owner);
}

const inUse = (queue: number, owner: string): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_SYSTEM', {
    detail: `NFQUEUE number ${queue} is in use by process ${owner}: choose another, or end that process`,
  });

/** The netlink port, mostly the process id, that has bound `queue`: columns 1 and 2 of the kernel's list. */
function ownerOf(queue: number): string | undefined {
  let list: string;
  try {
    list = readFileSync('/proc/self/net/netfilter/nfnetlink_queue', 'utf8');
  } catch {
    return undefined;
  }
  return list
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([number]) => number === String(queue))?.[1];
}
