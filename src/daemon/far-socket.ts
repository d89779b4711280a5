/**
 * The daemon's socket to a far host stands for the application's: it looks like it as far as the application's SYN tells,
 * and there are SYNs that nobody can stand in for.
 */
import { TcpcryptError } from '../errors.js';
import * as libc from '../kernel/libc.js';
import { MARK } from '../kernel/packet-marks.js';
import { findOption, type Segment } from '../kernel/segment.js';
import { sockaddr } from '../kernel/sockaddr.js';
import { NO_LINGER } from '../socket/transport.js';

/** TCP options, by kind: RFC 2385, RFC 5925, RFC 8684 §3. */
const MD5_SIGNATURE = 19;
const AUTHENTICATION = 29;
const MULTIPATH = 30;
const MP_JOIN = 1;
/** Ports that only root may use; programs such as rsh and NFS trust them. */
const FIRST_UNPRIVILEGED = 1024;
/** As rresvport(3) does, downwards to this one. */
const LAST_TRIED = 512;
const ECN_BITS = 0x03;

/**
 * Whether a connection can be relayed at all. Not where both ends sign each segment with a key of their own (BGP), and
 * not a further subflow of a multipath connection.
 */
export function relayable(syn: Segment): boolean {
  if (findOption(syn, MD5_SIGNATURE) !== undefined || findOption(syn, AUTHENTICATION) !== undefined)
    return false;
  const multipath = findOption(syn, MULTIPATH)?.[0];
  return multipath === undefined || multipath >> 4 !== MP_JOIN;
}

export const isPrivileged = (port: number): boolean => port < FIRST_UNPRIVILEGED;

/**
 * Prepares a socket that is about to connect where `syn` wanted to go: traffic class and hop limit as there, and a
 * privileged port for a privileged port.
 * @throws ERR_TCPCRYPT_SYSTEM where no privileged port is free
 */
export function prepareFarSocket(fd: number, syn: Segment): void {
  const four = syn.family === 'ipv4';
  libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_MARK, MARK.DAEMON_SOCKET);
  // As the relay wants it.
  libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_LINGER, NO_LINGER);
  libc.setsockopt(fd, libc.IPPROTO_TCP, libc.TCP_NODELAY, 1);
  // The application's own keep-alive ends at the daemon, so somebody has to notice that the far host is gone.
  libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_KEEPALIVE, 1);
  const trafficClass = syn.trafficClass & ~ECN_BITS;
  if (trafficClass !== 0) {
    if (four) libc.setsockopt(fd, libc.SOL_IP, libc.IP_TOS, trafficClass);
    else libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_TCLASS, trafficClass);
  }
  if (syn.hops !== 0) {
    if (four) libc.setsockopt(fd, libc.SOL_IP, libc.IP_TTL, syn.hops);
    else libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_UNICAST_HOPS, syn.hops);
  }
  if (isPrivileged(syn.sourcePort)) bindPrivileged(fd, syn.source);
  else libc.setsockopt(fd, libc.SOL_IP, libc.IP_BIND_ADDRESS_NO_PORT, 1);
}

function bindPrivileged(fd: number, address: string): void {
  for (let port = FIRST_UNPRIVILEGED - 1; port >= LAST_TRIED; port--) {
    const result = libc.tryBind(fd, sockaddr(address, port));
    if (result === 0) return;
    if (result !== -libc.EADDRINUSE) throw libc.systemError('bind', -result);
  }
  throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', {
    errno: libc.EADDRNOTAVAIL,
    detail: `no privileged port of ${address} is free`,
  });
}
