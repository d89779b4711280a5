/** `Server`: incoming connections, after the manner of `net.Server`. */
import { lookup } from 'node:dns';
import { EventEmitter } from 'node:events';
import { type AddressInfo, isIP, Server as TcpServer, type Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { type EnoOutcome, enoOutcome, openEnoSocket, refuseSynData } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';
import { TransientMap } from '../transient-map.js';
import { onConnection } from './accept.js';
import { withoutKernel } from './connect.js';
import { check, type Encryption, type EncryptionOptions, encryptionOfListener } from './options.js';
import { passiveEnoOffer } from './passive-offer.js';
import { type Accepting, attach, Socket } from './socket.js';
import { asSystemError } from './system-error.js';
import { descriptorOf, reset } from './transport.js';

/** Options of {@link createServer}: those of net.createServer with the same meaning, and the {@link EncryptionOptions}. */
export interface ServerOptions extends EncryptionOptions {
  readonly allowHalfOpen?: boolean;
  readonly highWaterMark?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
}

/** Options of {@link Server.listen}. */
export interface ListenOptions {
  /** Default 0: any that is free. */
  readonly port?: number;
  /** Name or address; default '::' with IPv4 too, or 0.0.0.0 where there is no IPv6. */
  readonly host?: string;
  /** Connections that may wait to be accepted; default 511. */
  readonly backlog?: number;
  /** With host '::', not IPv4 as well. */
  readonly ipv6Only?: boolean;
  /** Lets several servers, in several processes, share the port: the kernel spreads the connections. */
  readonly reusePort?: boolean;
  /** Closes the server. */
  readonly signal?: AbortSignal;
}

const DEFAULT_BACKLOG = 511;

type ListenWord = ListenOptions | number | string | (() => void) | undefined;

/**
 * Waits for connections. Events:
 *   'listening', 'close', 'error', 'drop'  as net.Server
 *   'connection' (socket)          a connection that is ready: encrypted and, with the option `auth`, authenticated;
 *                                  or plain in mode `opportunistic`
 *   'clientError' (error, socket)  a connection that failed before it was ready; it is already reset
 */
export class Server extends EventEmitter {
  readonly #encryption: Encryption;
  readonly #options: ServerOptions;
  readonly #server: TcpServer;
  /** Accepted, key exchange not over; by number. */
  readonly #unready = new TransientMap<number, Socket>();
  #accepted = 0;
  /** Why no connection can be encrypted. */
  #withoutKernel: EnoOutcome | undefined;
  /** listen() was called, and close() not yet; a name is being looked up, perhaps. */
  #opened = false;

  constructor(options: ServerOptions = {}, listener?: (socket: Socket) => void) {
    super();
    this.#encryption = encryptionOfListener(options);
    this.#options = options;
    this.#server = new TcpServer({ allowHalfOpen: true });
    onConnection(this.#server, (transport) => this.#accept(transport));
    this.#server.on('error', (error) => this.#failed(error));
    for (const event of ['listening', 'close', 'drop']) {
      this.#server.on(event, (...args) => this.emit(event, ...args));
    }
    if (listener !== undefined) this.on('connection', listener);
  }

  get listening(): boolean {
    return this.#server.listening;
  }
  /** Further connections are dropped ('drop'); those whose key exchange is not over count. */
  get maxConnections(): number {
    return this.#server.maxConnections;
  }
  set maxConnections(count: number) {
    this.#server.maxConnections = count;
  }

  /**
   * Starts listening; `callback` on 'listening'.
   * @throws ERR_TCPCRYPT_ARGUMENT, also when the server listens already
   * Errors by event: those of net.Server (EADDRINUSE, EACCES, …), ERR_TCPCRYPT_KERNEL_ABSENT in mode `required`.
   */
  listen(options: ListenOptions, callback?: () => void): this;
  listen(port?: number, host?: string, backlog?: number, callback?: () => void): this;
  listen(port: number, host: string, callback?: () => void): this;
  listen(port: number, callback?: () => void): this;
  listen(callback: () => void): this;
  listen(...words: ListenWord[]): this {
    const [options, callback] = listenArguments(words);
    const { port = 0, signal } = options;
    check(Number.isInteger(port) && port >= 0 && port < 65536, `port: ${port}`);
    check(!this.#opened, 'the server is listening already');
    this.#opened = true;
    if (callback !== undefined) this.once('listening', callback);
    if (signal !== undefined) closeOnAbort(this, signal);
    this.#listen(port, options);
    return this;
  }

  /**
   * Stops accepting; 'close' when the last connection has ended. Connections that no 'connection' has told of are
   * reset.
   */
  close(callback?: (error?: Error) => void): this {
    this.#opened = false;
    this.#server.close(callback);
    for (const socket of this.#unready.values()) socket.resetAndDestroy();
    return this;
  }

  /** As net.Server: null before 'listening'. */
  address(): AddressInfo | null {
    return this.#server.address() as AddressInfo | null;
  }
  /** Calls back with the number of open connections, those whose key exchange is not over included. */
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

  #listen(port: number, options: ListenOptions): void {
    const { host } = options;
    if (host === undefined || isIP(host) !== 0) {
      this.#listenOn(host, port, options);
      return;
    }
    lookup(host, (error, address) => {
      if (!this.#opened) return;
      if (error !== null) this.#failed(error);
      else this.#listenOn(address, port, options);
    });
  }

  /** As node:net, synchronous: address() tells the port right after listen(). */
  #listenOn(address: string | undefined, port: number, options: ListenOptions): void {
    const { backlog = DEFAULT_BACKLOG, ipv6Only = false, reusePort = false } = options;
    try {
      const fd = this.#bound(address, port, { ipv6Only, reusePort });
      this.#withoutKernel = undefined;
      this.#server.listen({ fd }, backlog);
      refuseSynData(fd);
    } catch (error) {
      const code = error instanceof TcpcryptError ? error.code : undefined;
      if (this.#encryption.mode === 'required' || !withoutKernel(code)) {
        process.nextTick(() => this.#failed(asSystemError(error, 'listen', address ?? '::', port)));
        return;
      }
      this.#withoutKernel = { result: 'plain', reason: code };
      const host = address === undefined ? {} : { host: address };
      this.#server.listen({ port, backlog, ipv6Only, ...host });
    }
  }

  /** A bound socket with our offer, still without listen(2): libuv calls that. */
  #bound(
    address: string | undefined,
    port: number,
    { ipv6Only, reusePort }: { ipv6Only: boolean; reusePort: boolean },
  ): number {
    const offer = passiveEnoOffer(this.#encryption);
    const bind = (family: 4 | 6, host: string): number => {
      const fd = openEnoSocket(family, offer);
      try {
        libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
        if (reusePort) libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEPORT, 1);
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
      // Without IPv6 the family is unknown, or there is no such address; everything else is true of IPv4 as well.
      const errno = error instanceof TcpcryptError ? error.errno : undefined;
      if (errno !== libc.EAFNOSUPPORT && errno !== libc.EADDRNOTAVAIL) throw error;
      return bind(4, '0.0.0.0');
    }
  }

  #failed(error: Error): void {
    this.#opened = false;
    this.emit('error', error);
  }

  #accept(transport: TcpSocket): void {
    const { allowHalfOpen = false, highWaterMark, noDelay, keepAlive, keepAliveInitialDelay } = this.#options;
    if (noDelay) transport.setNoDelay(true);
    if (keepAlive) transport.setKeepAlive(true, keepAliveInitialDelay);
    const socket = new Socket({ allowHalfOpen, ...(highWaterMark === undefined ? {} : { highWaterMark }) });
    const fd = descriptorOf(transport);
    let outcome: EnoOutcome;
    try {
      outcome = this.#withoutKernel ?? enoOutcome(fd);
    } catch (error) {
      void transport.remoteAddress;
      reset(transport); // the peer may count on encryption
      this.emit('clientError', error, socket);
      return;
    }
    this.#accepted += 1;
    const accepting = this.#await(socket, this.#accepted);
    socket[attach]({ transport, fd, outcome }, this.#encryption, accepting);
    // It is remembered, for who hears of a 'clientError' and asks when the connection is gone. A resumed one can fail before
    // it is ready only where it has to authenticate.
    if (!socket.resumed || this.#encryption.auth !== undefined) void transport.remoteAddress;
  }

  #await(socket: Socket, number: number): Accepting {
    this.#unready.set(number, socket);
    return {
      handleReady: () => {
        this.#unready.delete(number);
        this.emit('connection', socket);
      },
      handleFailure: (error) => {
        this.emit('clientError', error, socket);
      },
      handleGone: () => {
        this.#unready.delete(number);
      },
    };
  }
}

function listenArguments(words: readonly ListenWord[]): [ListenOptions, (() => void) | undefined] {
  const callback = words.find((word) => typeof word === 'function');
  const [first, host, backlog] = words;
  if (typeof first === 'object') return [first, callback];
  return [
    {
      ...(typeof first === 'number' ? { port: first } : {}),
      ...(typeof host === 'string' ? { host } : {}),
      ...(typeof backlog === 'number' ? { backlog } : {}),
    },
    callback,
  ];
}

function closeOnAbort(server: Server, signal: AbortSignal): void {
  const close = (): void => {
    server.close();
  };
  if (signal.aborted) {
    process.nextTick(close);
    return;
  }
  signal.addEventListener('abort', close, { once: true });
  server.once('close', () => signal.removeEventListener('abort', close));
}

/** Creates a server; `listener` hears 'connection'. @throws ERR_TCPCRYPT_ARGUMENT */
export function createServer(options?: ServerOptions, listener?: (socket: Socket) => void): Server;
export function createServer(listener?: (socket: Socket) => void): Server;
export function createServer(
  first?: ServerOptions | ((socket: Socket) => void),
  second?: (socket: Socket) => void,
): Server {
  return typeof first === 'function' ? new Server({}, first) : new Server(first ?? {}, second);
}
