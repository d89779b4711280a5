/** Listeners that TPROXY may deliver to: what they accept has the address that the packets were meant for. */
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { type EnoOffer, openEnoSocket, refuseSynData } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';
import { onConnection } from '../socket/accept.js';
import { NO_LINGER, reset } from '../socket/transport.js';

/** So many connections may wait to be accepted; the kernel has a limit of its own (net.core.somaxconn). */
const BACKLOG = 4096;
/** How often to look for a port that is free on both loopback addresses. */
const ATTEMPTS = 16;
/** How often a listener that pauses looks whether it may go on (ms). */
const PAUSE = 50;

export interface TransparentOptions {
  /** What to answer to TCP-ENO; without it, nothing. */
  readonly offer?: EnoOffer;
  /** Told of every socket that listens, when it does; if it throws, none does. */
  readonly onListening?: (fd: number) => void;
  /** On ::1 as well. */
  readonly ipv6: boolean;
  /** Reserved for us by another process, see {@link reservePort}; otherwise one that is free. */
  readonly port?: number;
}

/** A listener on the same, free port of 127.0.0.1 and ::1. What it accepts is half-open. */
export class TransparentListener {
  readonly #options: TransparentOptions;
  /** Bound, but not listening: the port stays ours while the listener pauses. */
  readonly #places: number[];
  readonly #servers: Server[] = [];
  #handler: (socket: TcpSocket) => void = reset;
  #closed = false;
  #pause: NodeJS.Timeout | undefined;

  private constructor(
    readonly port: number,
    places: number[],
    options: TransparentOptions,
  ) {
    this.#places = places;
    this.#options = options;
  }

  static async open(options: TransparentOptions): Promise<TransparentListener> {
    const { port, places } =
      options.port === undefined ? reservePort(options.ipv6) : { port: options.port, places: [] };
    const listener = new TransparentListener(port, places, options);
    try {
      await listener.#listen();
      return listener;
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** From now on, what is accepted goes to `handler`; to be called at once. */
  onConnection(handler: (socket: TcpSocket) => void): void {
    this.#handler = handler;
  }

  /** Accepts nothing until `over`, which is asked every now and then. What waits to be accepted is reset. */
  pause(over: () => boolean): void {
    if (this.#pause !== undefined || this.#closed) return;
    for (const server of this.#servers.splice(0)) server.close();
    this.#pause = setInterval(() => {
      if (!over()) return;
      clearInterval(this.#pause);
      this.#pause = undefined;
      // Out of descriptors: another pause.
      this.#listen().catch(() => this.pause(over));
    }, PAUSE);
  }

  /** Accepts nothing any more; what has been accepted stays. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#pause);
    for (const server of this.#servers.splice(0)) server.close();
    for (const fd of this.#places.splice(0)) libc.close(fd);
  }

  async #listen(): Promise<void> {
    for (const family of familiesOf(this.#options.ipv6)) {
      const server = await listen(family, this.port, this.#options, (socket) => this.#handler(socket));
      if (this.#closed) {
        server.close();
        return;
      }
      // Out of descriptors: what waits is accepted later.
      server.on('error', () => {});
      this.#servers.push(server);
    }
  }
}

const familiesOf = (ipv6: boolean): readonly (4 | 6)[] => (ipv6 ? [4, 6] : [4]);

export interface Reservation {
  readonly port: number;
  /** Descriptors; the port is ours until they are closed. */
  readonly places: number[];
}

/** A port that is free on both loopback addresses, and bound there. */
export function reservePort(ipv6: boolean): Reservation {
  for (let attempt = 1; ; attempt++) {
    const places: number[] = [];
    try {
      places.push(boundSocket(4, 0));
      const name = libc.getsockname(places[0] ?? -1);
      const port = name.readUInt16BE(2);
      if (ipv6) places.push(boundSocket(6, port));
      return { port, places };
    } catch (error) {
      for (const fd of places) libc.close(fd);
      const taken = error instanceof TcpcryptError && error.errno === libc.EADDRINUSE;
      if (!taken || attempt === ATTEMPTS) throw error;
    }
  }
}

/** A transparent socket at `port` of the loopback address. */
function boundSocket(family: 4 | 6, port: number, offer?: EnoOffer): number {
  const fd = transparentSocket(family, offer);
  try {
    // Two sockets may have the port as long as one of them at most listens. And what is accepted takes up the port it was
    // meant for: a server there must be able to start again.
    libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
    // What is accepted inherits it: if the process has no descriptor for it, it is reset, and not ended in order.
    libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_LINGER, NO_LINGER);
    libc.setsockopt(fd, libc.IPPROTO_TCP, libc.TCP_NODELAY, 1); // inherited as well
    if (family === 6) libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_V6ONLY, 1);
    libc.bind(fd, sockaddr(family === 4 ? '127.0.0.1' : '::1', port));
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** A socket that may use any address as its own, and so may what it accepts. The caller owns the descriptor. */
export function transparentSocket(family: 4 | 6, offer?: EnoOffer): number {
  const type = libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC;
  const fd =
    offer === undefined
      ? libc.socket(family === 4 ? libc.AF_INET : libc.AF_INET6, type, 0)
      : openEnoSocket(family, offer);
  try {
    if (family === 4) libc.setsockopt(fd, libc.SOL_IP, libc.IP_TRANSPARENT, 1);
    else libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_TRANSPARENT, 1);
    // Urgent data of the application's or the server's stays in the stream, where it stood, instead of being lost.
    libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_OOBINLINE, 1);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

async function listen(
  family: 4 | 6,
  port: number,
  options: TransparentOptions,
  accept: (socket: TcpSocket) => void,
): Promise<Server> {
  const fd = boundSocket(family, port, options.offer);
  const server = createServer({ allowHalfOpen: true });
  onConnection(server, accept);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd, backlog: BACKLOG }, resolve);
  });
  try {
    refuseSynData(fd);
    options.onListening?.(fd);
  } catch (error) {
    server.close();
    throw error;
  }
  return server;
}
