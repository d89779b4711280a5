/** A listener that TPROXY may deliver to: what it accepts has the address that the packets were meant for. */
import { createServer, type Server } from 'node:net';
import { openEnoSocket } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';

/** So many connections may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn). */
const BACKLOG = 4096;

/**
 * Listens on a free port of the loopback address. What it accepts is half-open.
 * @param enoContents what to answer to TCP-ENO; without it, nothing
 */
export async function listenTransparently(family: 4, enoContents?: Uint8Array): Promise<Server> {
  const fd =
    enoContents === undefined
      ? libc.socket(libc.AF_INET, libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC, 0)
      : openEnoSocket(family, { contents: enoContents });
  try {
    libc.setsockopt(fd, libc.SOL_IP, libc.IP_TRANSPARENT, 1);
    libc.bind(fd, sockaddr('127.0.0.1', 0));
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd, backlog: BACKLOG }, resolve);
  });
  return server;
}
