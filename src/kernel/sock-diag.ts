/** One question to the kernel about a socket of another program (sock_diag(7)): is it still there? Needs no privilege. */
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  close,
  ENOENT,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  NETLINK_SOCK_DIAG,
  SOCK_CLOEXEC,
  SOCK_RAW,
  socket,
  tryRecv,
  trySend,
} from './libc.js';
import type { Segment } from './segment.js';
import { writeOwnForm } from './sockaddr.js';

/** linux/sock_diag.h, linux/netlink.h, linux/inet_diag.h. */
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLMSG_HEADER_LENGTH = 16;
const REQUEST_LENGTH = NLMSG_HEADER_LENGTH + 56;
const LISTEN = 10;

export type SocketName = Pick<
  Segment,
  'family' | 'source' | 'sourcePort' | 'destination' | 'destinationPort'
>;

export class SockDiag {
  readonly #netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  readonly #request = requestAboutAny();
  readonly #answer = Buffer.alloc(1024);
  #sequence = 0;

  close(): void {
    close(this.#netlink);
  }

  /**
   * Whether the socket that has sent `syn` is found; about 10 µs. It is not when it was closed meanwhile; nor when it is
   * bound to an interface (`SO_BINDTODEVICE`, a VRF), as it is looked up as for a segment that came in by none.
   * @returns undefined where the kernel cannot tell: no CONFIG_INET_TCP_DIAG
   */
  finds(syn: SocketName): boolean | undefined {
    this.#sequence = (this.#sequence + 1) >>> 0;
    fillIn(this.#request, syn, this.#sequence);
    if (trySend(this.#netlink, this.#request) < 0) return undefined;
    // The kernel does its work within send(2).
    for (;;) {
      const length = tryRecv(this.#netlink, this.#answer, MSG_DONTWAIT);
      if (length < NLMSG_HEADER_LENGTH + 4) return undefined;
      if (this.#answer.readUInt32LE(8) !== this.#sequence) continue;
      if (this.#answer.readUInt16LE(4) === SOCK_DIAG_BY_FAMILY)
        return this.#answer.readUInt8(NLMSG_HEADER_LENGTH + 1) !== LISTEN;
      return this.#answer.readInt32LE(NLMSG_HEADER_LENGTH) === -ENOENT ? false : undefined;
    }
  }
}

/**
 * `struct nlmsghdr`, then `struct inet_diag_req_v2`:
 *
 *     family(1) protocol(1) extensions(1) 0  states(4)  ports(2+2, big-endian)  addresses(16+16)  interface(4)  cookie(8)
 */
function requestAboutAny(): Buffer {
  const request = Buffer.alloc(REQUEST_LENGTH);
  request.writeUInt32LE(REQUEST_LENGTH, 0);
  request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  request.writeUInt16LE(NLM_F_REQUEST, 6);
  const body = request.subarray(NLMSG_HEADER_LENGTH);
  body.writeUInt8(IPPROTO_TCP, 1);
  body.writeUInt32LE(0xffffffff, 4);
  body.fill(0xff, 48, 56); // INET_DIAG_NOCOOKIE
  return request;
}

/** IPv4 addresses stand in the first four bytes; what an IPv6 one has left behind them is not looked at. */
function fillIn(request: Buffer, syn: SocketName, sequence: number): void {
  request.writeUInt32LE(sequence, 8);
  request.writeUInt8(syn.family === 'ipv4' ? AF_INET : AF_INET6, NLMSG_HEADER_LENGTH);
  request.writeUInt16BE(syn.sourcePort, NLMSG_HEADER_LENGTH + 8);
  request.writeUInt16BE(syn.destinationPort, NLMSG_HEADER_LENGTH + 10);
  writeOwnForm(syn.source, request, NLMSG_HEADER_LENGTH + 12);
  writeOwnForm(syn.destination, request, NLMSG_HEADER_LENGTH + 28);
}
