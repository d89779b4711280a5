/** `Server`: incoming connections, after the manner of `net.Server`. */
import { lookup } from 'node:dns/promises';
import { EventEmitter } from 'node:events';
import { type AddressInfo, isIP, Server as TcpServer, type Socket as TcpSocket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { TcpcryptError } from '../errors.js';
import { type EnoOutcome, enoOutcome, openEnoSocket } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';
import { passiveOffer } from '../session/index.js';
import { withoutKernel } from './connect.js';
import { check, type Encryption, type EncryptionOptions, encryption } from './options.js';
import { Socket } from './socket.js';
import { descriptorOf } from './transport.js';

export interface ServerOptions extends EncryptionOptions {
  readonly allowHalfOpen?: boolean;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

export interface ListenOptions {
  readonly port?: number;
  /** Name or address; default '::' with IPv4 too, or 0.0.0.0 where there is no IPv6. */
  readonly host?: string;
  readonly backlog?: number;
  readonly ipv6Only?: boolean;
  readonly signal?: AbortSignal;
}

const DEFAULT_BACKLOG = 511;

/**
 * Events:
 *   'listening', 'close', 'error'  as net.Server
 *   'connection' (socket)          a connection that is ready: encrypted, or plain in mode `opportunistic`
 *   'clientError' (error, socket)  a connection that failed before it was ready; it is already reset
 */
export class Server extends EventEmitter {
  readonly #encryption: Encryption;
  readonly #options: ServerOptions;
  readonly #server: TcpServer;
  /** Accepted, key exchange not over. */
  readonly #unready = new Set<Socket>();
  #kernel = true;

  constructor(options: ServerOptions = {}, listener?: (socket: Socket) => void) {
    super();
    this.#encryption = encryption(options);
    this.#options = options;
    this.#server = new TcpServer({
      allowHalfOpen: true,
      noDelay: options.noDelay ?? false,
      keepAlive: options.keepAlive ?? false,
      keepAliveInitialDelay: options.keepAliveInitialDelay ?? 0,
    });
    this.#server.on('connection', (transport) => this.#accept(transport));
    for (const event of ['listening', 'close', 'error', 'drop']) {
      this.#server.on(event, (...args) => this.emit(event, ...args));
    }
    if (listener !== undefined) this.on('connection', listener);
  }

  get listening(): boolean {
    return this.#server.listening;
  }
  get maxConnections(): number {
    return this.#server.maxConnections;
  }
  set maxConnections(count: number) {
    this.#server.maxConnections = count;
  }

  /**
   * Starts listening; `callback` on 'listening'.
   * Errors by event: those of net.Server (EADDRINUSE, EACCES, …), ERR_TCPCRYPT_KERNEL_ABSENT in mode `required`.
   */
  listen(options: ListenOptions, callback?: () => void): this;
  listen(port?: number, host?: string, callback?: () => void): this;
  listen(port: number, callback?: () => void): this;
  listen(first: ListenOptions | number = 0, second?: string | (() => void), third?: () => void): this {
    const options: ListenOptions =
      typeof first === 'number'
        ? { port: first, ...(typeof second === 'string' ? { host: second } : {}) }
        : first;
    const callback = typeof second === 'function' ? second : third;
    const port = options.port ?? 0;
    check(Number.isInteger(port) && port >= 0 && port < 65536, `port: ${port}`);
    if (callback !== undefined) this.once('listening', callback);
    options.signal?.addEventListener('abort', () => this.close(), { once: true });
    this.#listen(port, options).catch((error: unknown) => this.emit('error', error));
    return this;
  }

  /** Stops accepting; 'close' when the last connection has ended. */
  close(callback?: (error?: Error) => void): this {
    this.#server.close(callback);
    for (const socket of this.#unready) socket.resetAndDestroy();
    return this;
  }

  address(): AddressInfo | string | null {
    return this.#server.address();
  }
  getConnections(callback: (error: Error | null, count: number) => void): this {
    this.#server.getConnections(callback);
    return this;
  }
  ref(): this {
    this.#server.ref();
    return this;
  }
  unref(): this {
    this.#server.unref();
    return this;
  }

  async #listen(
    port: number,
    { host, backlog = DEFAULT_BACKLOG, ipv6Only = false }: ListenOptions,
  ): Promise<void> {
    const address = host === undefined || isIP(host) !== 0 ? host : (await lookup(host)).address;
    let fd: number;
    try {
      fd = this.#bound(address, port, ipv6Only);
    } catch (error) {
      const code = error instanceof TcpcryptError ? error.code : undefined;
      if (code === 'ERR_TCPCRYPT_SYSTEM' || code === 'ERR_TCPCRYPT_PERMISSION') {
        throw asListenError(error as TcpcryptError, address ?? '::', port);
      }
      if (this.#encryption.mode === 'required' || !withoutKernel(code)) throw error;
      this.#kernel = false;
      this.#server.listen({ port, backlog, ipv6Only, ...(address === undefined ? {} : { host: address }) });
      return;
    }
    this.#server.listen({ fd, backlog });
  }

  /** A bound socket with our offer, still without listen(2): libuv calls that. */
  #bound(address: string | undefined, port: number, ipv6Only: boolean): number {
    const offer = { contents: passiveOffer(this.#encryption.teps) };
    const bind = (family: 4 | 6, host: string): number => {
      const fd = openEnoSocket(family, offer);
      try {
        libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
        if (family === 6) libc.setsockopt(fd, libc.SOL_IPV6, libc.IPV6_V6ONLY, ipv6Only ? 1 : 0);
        libc.bind(fd, sockaddr(host, port));
        return fd;
      } catch (error) {
        libc.close(fd);
        throw error;
      }
    };
    if (address !== undefined) return bind(isIP(address) === 6 ? 6 : 4, address);
    try {
      return bind(6, '::');
    } catch (error) {
      if (error instanceof TcpcryptError && error.errno === libc.EADDRINUSE) throw error;
      return bind(4, '0.0.0.0');
    }
  }

  #accept(transport: TcpSocket): void {
    const fd = descriptorOf(transport);
    let outcome: EnoOutcome = { result: 'plain', reason: 'ERR_TCPCRYPT_KERNEL_ABSENT' };
    if (this.#kernel && fd >= 0) outcome = enoOutcome(fd);
    const socket = new Socket({ allowHalfOpen: this.#options.allowHalfOpen ?? false });
    this.#unready.add(socket);
    const failed = (error: Error): void => {
      this.#unready.delete(socket);
      this.emit('clientError', error, socket);
    };
    socket.once('error', failed);
    socket.once('close', () => this.#unready.delete(socket));
    socket.once('ready', () => {
      this.#unready.delete(socket);
      socket.off('error', failed);
      this.emit('connection', socket);
    });
    socket.attach(transport, fd, outcome, this.#encryption);
  }
}

/** What net.Server would have reported. */
function asListenError(error: TcpcryptError, address: string, port: number): Error {
  const name = getSystemErrorName(-(error.errno ?? 0));
  return Object.assign(new Error(`listen ${name}: ${address}:${port}`, { cause: error }), {
    code: name,
    errno: -(error.errno ?? 0),
    syscall: 'listen',
    address,
    port,
  });
}

/** Creates a server; `listener` hears 'connection'. */
export function createServer(options?: ServerOptions, listener?: (socket: Socket) => void): Server;
export function createServer(listener?: (socket: Socket) => void): Server;
export function createServer(
  first?: ServerOptions | ((socket: Socket) => void),
  second?: (socket: Socket) => void,
): Server {
  return typeof first === 'function' ? new Server({}, first) : new Server(first ?? {}, second);
}
