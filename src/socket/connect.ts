/** `connect`: an outgoing connection, by name or address. */
import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction, connect as netConnect, type Socket as TcpSocket } from 'node:net';
import { type ErrorCode, TcpcryptError } from '../errors.js';
import { dial } from './dial.js';
import { check, type Encryption, type EncryptionOptions, encryption } from './options.js';
import { Socket, type SocketOptions } from './socket.js';

export interface ConnectOptions extends EncryptionOptions, SocketOptions {
  readonly port: number;
  /** Name or address; default 'localhost'. */
  readonly host?: string;
  readonly family?: 0 | 4 | 6;
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly lookup?: LookupFunction;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
  /** Idle milliseconds before 'timeout'. */
  readonly timeout?: number;
}

/**
 * Opens a connection that is encrypted when the peer can (mode `opportunistic`, the default) or only then
 * (mode `required`). `listener` is called on 'ready'.
 *
 * The addresses of a name are tried one after the other.
 *
 * @throws ERR_TCPCRYPT_ARGUMENT
 * Errors by event: those of net.Socket (ECONNREFUSED, ENOTFOUND, …), ERR_TCPCRYPT_NOT_ENCRYPTED and
 * ERR_TCPCRYPT_KERNEL_ABSENT (mode `required`), every 'abort' row of the table of errors.
 */
export function connect(options: ConnectOptions, listener?: () => void): Socket;
export function connect(port: number, host?: string, listener?: () => void): Socket;
export function connect(port: number, listener?: () => void): Socket;
export function connect(
  first: ConnectOptions | number,
  second?: string | (() => void),
  third?: () => void,
): Socket {
  const options: ConnectOptions =
    typeof first === 'number'
      ? { port: first, ...(typeof second === 'string' ? { host: second } : {}) }
      : first;
  const listener = typeof second === 'function' ? second : third;
  const wanted = encryption(options);
  check(Number.isInteger(options.port) && options.port > 0 && options.port < 65536, `port: ${options.port}`);

  const socket = new Socket(options);
  if (listener !== undefined) socket.once('ready', listener);
  if (options.noDelay) socket.setNoDelay(true);
  if (options.keepAlive) socket.setKeepAlive(true, options.keepAliveInitialDelay ?? 0);
  if (options.timeout !== undefined) socket.setTimeout(options.timeout);

  const host = options.host ?? 'localhost';
  resolve(host, options, (error, addresses) => {
    if (socket.destroyed) return;
    if (error !== null) {
      socket.destroy(error);
      return;
    }
    for (const { address, family } of addresses) socket.emit('lookup', null, address, family, host);
    tryAddresses(socket, addresses, options, wanted);
  });
  return socket;
}

function resolve(
  host: string,
  options: ConnectOptions,
  done: (error: Error | null, addresses: LookupAddress[]) => void,
): void {
  const family = isIP(host);
  if (family !== 0) {
    process.nextTick(done, null, [{ address: host, family }]);
    return;
  }
  const lookup = options.lookup ?? (dnsLookup as unknown as LookupFunction);
  lookup(host, { all: true, family: options.family ?? 0 }, (error, addresses) => {
    done(error, Array.isArray(addresses) ? addresses : []);
  });
}

function tryAddresses(
  socket: Socket,
  [address, ...others]: readonly LookupAddress[],
  options: ConnectOptions,
  wanted: Encryption,
): void {
  if (address === undefined) {
    socket.destroy(new Error(`no address for ${options.host}`));
    return;
  }
  const failed = (error: Error): void => {
    if (socket.destroyed) return;
    if (others.length > 0) tryAddresses(socket, others, options, wanted);
    else socket.destroy(error);
  };
  const target = {
    host: address.address,
    port: options.port,
    family: address.family === 6 ? (6 as const) : (4 as const),
    localAddress: options.localAddress,
    localPort: options.localPort,
  };
  let transport: TcpSocket;
  try {
    transport = dial(target, wanted, (error, dialled) => {
      socket.off('close', giveUp);
      if (dialled === undefined) failed(error ?? new Error('connection failed'));
      else if (socket.destroyed) dialled.transport.resetAndDestroy();
      else socket.attach(dialled.transport, dialled.fd, dialled.outcome, wanted);
    });
  } catch (error) {
    const code = error instanceof TcpcryptError ? error.code : undefined;
    if (wanted.mode === 'required' || !withoutKernel(code)) {
      process.nextTick(() => socket.destroy(error as Error));
      return;
    }
    transport = plainConnect(socket, target, wanted, code, failed);
  }
  const giveUp = (): void => {
    transport.destroy();
  };
  socket.once('close', giveUp);
}

/** A host that cannot do ENO talks plain TCP, as it always did. */
function plainConnect(
  socket: Socket,
  target: { host: string; port: number; localAddress: string | undefined; localPort: number | undefined },
  wanted: Encryption,
  reason: ErrorCode,
  failed: (error: Error) => void,
): TcpSocket {
  const { localAddress, localPort, host, port } = target;
  const transport = netConnect({
    host,
    port,
    allowHalfOpen: true,
    ...(localAddress === undefined ? {} : { localAddress }),
    ...(localPort === undefined ? {} : { localPort }),
  });
  transport.once('error', failed);
  transport.once('connect', () => {
    transport.off('error', failed);
    if (socket.destroyed) transport.resetAndDestroy();
    else socket.attach(transport, -1, { result: 'plain', reason }, wanted);
  });
  return transport;
}

/** Whether the error says that this machine cannot do ENO. */
export const withoutKernel = (code: ErrorCode | undefined): code is ErrorCode =>
  code === 'ERR_TCPCRYPT_KERNEL_ABSENT' || code === 'ERR_TCPCRYPT_PLATFORM';
