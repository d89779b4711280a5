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
  EAGAIN,
  EBUSY,
  EINTR,
  EINVAL,
  ENOBUFS,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
  eventfd,
  MSG_DONTWAIT,
  NETLINK_NETFILTER,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
  setsockopt,
  socket,
  systemError,
  tryRecv,
  trySend,
  waitReadable,
  wake,
} from './libc.js';
import {
  bindMessage,
  forgetConnectionMessage,
  type NetlinkMessage,
  NF_ACCEPT,
  NF_DROP,
  parseMessages,
  type QueueConfiguration,
  unbindMessage,
  verdictBatchMessage,
  verdictMessage,
} from './netlink.js';
import { readSegment } from './segment.js';

/** A packet that waits for {@link NfQueue.accept} or {@link NfQueue.drop}. */
export interface HeldSegment {
  readonly id: number;
  /** The packet's mark. Other programs own other bits of it: a new mark is this one with our bits added. */
  readonly mark: number;
  /** The packet from its IP header on, cut off after `copyBytes`; see readSegment. */
  readonly segment: Uint8Array;
  /** The user who owns the socket that sent it. */
  readonly uid?: number;
}

export interface NfQueueOptions {
  /** The number of the queue, 0 to 65535, in the network namespace of this process. */
  readonly queue: number;
  readonly onSegment: (segment: HeldSegment) => void;
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
  /** Packets that were given to `onSegment`. */
  readonly received: number;
  /** How often the socket's buffer was too small; the kernel then did with packets as when the queue is full. */
  readonly overruns: number;
}

/** IPv6 header 40, TCP header with options 60, and room for some extension headers. */
const DEFAULT_COPY_BYTES = 160;
const DEFAULT_MAX_HELD = 4096;
/** Room for `maxHeld` packets; a short packet takes about a kilobyte of kernel memory. */
const RECEIVE_BUFFER_PER_PACKET = 1024;
/** The longest datagram: headers and attributes (under 200 bytes) and the copied part of the packet. */
const DATAGRAM_OVERHEAD = 1024;
/** After so many packets other work of this process gets its turn. */
const BATCH = 64;
/** Far enough ahead that no held packet has a higher id, near enough to be "ahead" in a signed comparison. */
const ALL_IDS_AHEAD = 0x3fffffff;
/** So many SYNs are remembered, to tell one that is sent again. */
const RECENT_SYNS = 4096;
/** Sequence numbers of what we send; verdicts have 0. */
const BIND = 1;
const FORGET = 2;

/** One queue, bound to this process. Works for IPv4 and IPv6 alike. */
export class NfQueue {
  readonly #queue: number;
  readonly #options: NfQueueOptions;
  readonly #netlink: number;
  readonly #wakeUp: number;
  readonly #datagram: Buffer;
  readonly #ended: Promise<void>;
  /** Packets that came in while the queue was being bound. */
  readonly #early: NetlinkMessage[] = [];
  readonly #recent = new Set<string>();
  readonly #onExit = (): void => this.#beginClose();
  #closing = false;
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
    this.#datagram = Buffer.alloc(DATAGRAM_OVERHEAD + copyBytes);
    this.#netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    try {
      this.#bind({ queue, copyBytes, maxHeld, whenFull });
      this.#wakeUp = eventfd();
    } catch (error) {
      close(this.#netlink);
      throw error;
    }
    // Without this, the process would not end: it waits for the pool's thread, which waits for a packet.
    process.once('exit', this.#onExit);
    this.#ended = this.#serve();
  }

  get counters(): NfQueueCounters {
    return { received: this.#received, overruns: this.#overruns };
  }

  /** Lets the packet go on its way, with a new mark where one is given. A packet that is gone is ignored. */
  accept(id: number, mark?: number): void {
    this.#send(verdictMessage(this.#queue, NF_ACCEPT, id, mark));
  }

  /** Discards the packet; its sender will repeat it after about a second. */
  drop(id: number): void {
    this.#send(verdictMessage(this.#queue, NF_DROP, id, undefined));
  }

  /**
   * Accepts everything that is held, known to us or not, and unbinds the queue. Resolves when the socket is
   * closed. Packets that arrive between the two steps are dropped by the kernel and sent again by their senders.
   */
  close(): Promise<void> {
    this.#beginClose();
    return this.#ended;
  }

  #bind(configuration: QueueConfiguration): void {
    // Without CAP_NET_ADMIN this is the first call that fails.
    const bufferBytes = Math.max(configuration.maxHeld, BATCH) * RECEIVE_BUFFER_PER_PACKET;
    setsockopt(this.#netlink, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes);

    const sent = trySend(this.#netlink, bindMessage(configuration, BIND));
    if (sent < 0) throw systemError('send to netlink', -sent);
    // The kernel does its work within send(2): the answer is already there, perhaps after a first packet.
    for (;;) {
      const messages = this.#receive();
      if (messages === undefined) throw systemError('recv from netlink', EAGAIN);
      for (const message of messages) {
        if (message.kind === 'packet') this.#early.push(message);
        else if (message.sequence !== BIND) continue;
        else if (message.errno === 0) return;
        else throw bindError(configuration.queue, message.errno);
      }
    }
  }

  /** Hands packets over until the queue is closed, by {@link close} or by an error. */
  async #serve(): Promise<void> {
    let failure: unknown;
    try {
      // Not before open() has returned.
      await Promise.resolve();
      this.#handOver(this.#early.splice(0));
      while (!this.#closing) {
        await waitReadable([this.#netlink, this.#wakeUp]);
        for (let i = 0; i < BATCH && !this.#closing; i++) {
          const messages = this.#receive();
          if (messages === undefined) break;
          this.#handOver(messages);
        }
      }
    } catch (error) {
      failure = error;
      this.#beginClose();
    }
    process.off('exit', this.#onExit);
    close(this.#netlink);
    close(this.#wakeUp);
    if (failure !== undefined)
      this.#options.onError(
        failure instanceof TcpcryptError
          ? failure
          : new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `queue ${this.#queue}`, cause: failure }),
      );
  }

  /** The messages of one datagram, or undefined when there is none. */
  #receive(): NetlinkMessage[] | undefined {
    const result = tryRecv(this.#netlink, this.#datagram, MSG_DONTWAIT);
    if (result >= 0) return parseMessages(this.#datagram.subarray(0, result));
    if (result === -EAGAIN) return undefined;
    if (result === -EINTR) return [];
    if (result === -ENOBUFS) {
      this.#overruns++;
      return [];
    }
    throw systemError('recv from netlink', -result);
  }

  #handOver(messages: readonly NetlinkMessage[]): void {
    for (const message of messages) {
      if (message.kind === 'status') {
        // ENOENT: a verdict on a packet that is gone, e.g. because its interface went down.
        // What could not be forgotten: mostly there was nothing (ENOENT), else this kernel has no ctnetlink.
        if (message.sequence === FORGET) continue;
        if (message.errno !== 0 && message.errno !== ENOENT) throw systemError('NFQUEUE', message.errno);
        continue;
      }
      this.#received++;
      this.#lastId = message.id;
      const { id, mark, uid, payload } = message;
      this.#forgetFormerConnection(payload);
      this.#options.onSegment({ id, mark, segment: payload, ...(uid === undefined ? {} : { uid }) });
    }
  }

  /**
   * Connection tracking remembers a connection that was reset for ten seconds, and takes a SYN from the same
   * port for a part of it in some cases (the server's segment was the last one): address translation would
   * follow the verdict on the former connection and ignore this one's.
   */
  #forgetFormerConnection(packet: Uint8Array): void {
    const segment = readSegment(packet);
    if (segment === undefined || !segment.flags.syn || segment.flags.ack) return;
    const { source, sourcePort, destination, destinationPort, sequence } = segment;
    // A SYN that was sent again may belong to the connection that its elder just made.
    const syn = `${source} ${sourcePort} ${destination} ${destinationPort} ${sequence}`;
    if (this.#recent.has(syn)) return;
    this.#recent.add(syn);
    for (const oldest of this.#recent) {
      if (this.#recent.size <= RECENT_SYNS) break;
      this.#recent.delete(oldest);
    }
    this.#send(forgetConnectionMessage(segment, FORGET));
  }

  #beginClose(): void {
    if (this.#closing) return;
    this.#closing = true;
    trySend(this.#netlink, verdictBatchMessage(this.#queue, NF_ACCEPT, (this.#lastId + ALL_IDS_AHEAD) >>> 0));
    trySend(this.#netlink, unbindMessage(this.#queue));
    wake(this.#wakeUp);
  }

  #send(message: Buffer): void {
    // After close there is nothing left to decide: the kernel has accepted everything.
    if (this.#closing) return;
    const sent = trySend(this.#netlink, message);
    if (sent < 0) throw systemError('send to netlink', -sent);
  }
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
