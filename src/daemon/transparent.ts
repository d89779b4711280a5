/** Listeners that TPROXY may deliver to: what they accept has the address that the packets were meant for. */
import { type AddressInfo, createServer, type Server, type Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { type EnoOffer, openEnoSocket, refuseSynData } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';

/** So many connections may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn). */
const BACKLOG = 4096;
/** How often to look for a port that is free on both loopback addresses. */
const ATTEMPTS = 16;

export interface TransparentOptions {
  /** What to answer to TCP-ENO; without it, nothing. */
  readonly offer?: EnoOffer;
  /** On ::1 as well. */
  readonly ipv6: boolean;
}

/** A listener on the same, free port of 127.0.0.1 and ::1. What it accepts is half-open. */
export class TransparentListener {
  readonly #servers: readonly Server[];

  private constructor(
    readonly port: number,
    servers: readonly Server[],
  ) {
    this.#servers = servers;
  }

  static async open(options: TransparentOptions): Promise<TransparentListener> {
    for (let attempt = 1; ; attempt++) {
      const four = await listen(4, 0, options);
      const { port } = four.address() as AddressInfo;
      if (!options.ipv6) return new TransparentListener(port, [four]);
      try {
        return new TransparentListener(port, [four, await listen(6, port, options)]);
      } catch (error) {
        four.close();
        const taken = error instanceof TcpcryptError && error.errno === libc.EADDRINUSE;
        if (!taken || attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** From now on, what is accepted goes to `handler`; to be called at once. */
  onConnection(handler: (socket: TcpSocket) => void): void {
    for (const server of this.#servers) server.on('connection', handler);
  }

  /** Accepts nothing any more; what has been accepted stays. */
  close(): void {
    for (const server of this.#servers) server.close();
  }
}

/** A socket that may use any address as its own. The caller owns the descriptor. */
export function transparentSocket(family: 4 | 6, offer?: EnoOffer): number {
  const type = libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC;
  const fd =
    offer === undefined
      ? libc.socket(family === 4 ? libc.AF_INET : libc.AF_INET6, type, 0)
      : openEnoSocket(family, offer);
  try {
    if (family === 4) libc.setsockopt(fd, libc.SOL_IP, libc.IP_TRANSPARENT, 1);
    else libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_TRANSPARENT, 1);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

async function listen(family: 4 | 6, port: number, options: TransparentOptions): Promise<Server> {
  const fd = transparentSocket(family, options.offer);
  try {
    if (family === 6) libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_V6ONLY, 1);
    libc.bind(fd, sockaddr(family === 4 ? '127.0.0.1' : '::1', port));
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd, backlog: BACKLOG }, resolve);
  });
  refuseSynData(fd);
  return server;
}
