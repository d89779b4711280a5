/** `connect`: an outgoing connection, by name or address. */
import { type LookupAddress, lookup as lookupByName } from 'node:dns';
import {
  isIP,
  type LookupFunction,
  connect as netConnect,
  type OnReadOpts,
  type Socket as TcpSocket,
} from 'node:net';
import { type ErrorCode, TcpcryptError } from '../errors.js';
import { withoutStreams } from './bare-socket.js';
import { type DialTarget, dial } from './dial.js';
import { OnreadSocket } from './onread-socket.js';
import { ATTEMPT_DELAY, check, type Encryption, type EncryptionOptions, encryption } from './options.js';
import { type Attempt, alternate, Race } from './race.js';
import { attach, Socket, type SocketOptions } from './socket.js';
import { asSystemError } from './system-error.js';

/** Options of {@link connect}: those of net.connect with the same meaning, and the {@link EncryptionOptions}. */
export interface ConnectOptions extends EncryptionOptions, SocketOptions {
  /** 1 to 65535. */
  readonly port: number;
  /** Name or address; default 'localhost'. */
  readonly host?: string;
  /** Which addresses of a name may be used; default 0, both. */
  readonly family?: 0 | 4 | 6;
  /** The address to connect from. */
  readonly localAddress?: string;
  readonly localPort?: number;
  /** Instead of dns.lookup. */
  readonly lookup?: LookupFunction;
  /** False: only the first address of a name is tried. Default true. */
  readonly autoSelectFamily?: boolean;
  /** Milliseconds until the next address of a name is tried as well; default 250. */
  readonly autoSelectFamilyAttemptTimeout?: number;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
  /** Idle milliseconds before 'timeout', as {@link Socket.setTimeout}. */
  readonly timeout?: number;
  /** Data come into this memory instead of the stream, and nothing is allocated for them. */
  readonly onread?: OnReadOpts;
}

/**
 * Opens a connection that is encrypted when the peer can (mode `opportunistic`, the default) or only then
 * (mode `required`). `listener` is called on 'ready'.
 *
 * The addresses of a name are tried in turn, and the first one that answers is taken.
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
  const { port, localAddress } = options;
  check(Number.isInteger(port) && port > 0 && port < 65536, 'port', port);
  check(localAddress === undefined || isIP(localAddress) !== 0, 'localAddress', localAddress);

  const { onread } = options;
  const socket = onread === undefined ? new Socket(options) : new OnreadSocket(options, onread);
  if (listener !== undefined) socket.once('ready', listener);
  if (options.noDelay) socket.setNoDelay(true);
  if (options.keepAlive) socket.setKeepAlive(true, options.keepAliveInitialDelay ?? 0);
  if (options.timeout !== undefined) socket.setTimeout(options.timeout);

  resolve(socket, options, (addresses) => {
    const race = new Race({
      addresses,
      delay: options.autoSelectFamilyAttemptTimeout ?? ATTEMPT_DELAY,
      attempt: (address, done) => tryAddress(socket, options, wanted, address, done),
      done: (error, dialled) => {
        socket.off('close', cancel);
        if (dialled === undefined) socket.destroy(error);
        else socket[attach]({ ...dialled, transport: withoutStreams(dialled.transport) }, wanted);
      },
    });
    const cancel = (): void => race.cancel();
    socket.once('close', cancel);
  });
  return socket;
}

/** Calls `found` with the addresses to try, at least one, unless the socket has been destroyed by then. */
function resolve(
  socket: Socket,
  options: ConnectOptions,
  found: (addresses: readonly LookupAddress[]) => void,
): void {
  const { host = 'localhost', lookup = lookupByName as LookupFunction, family = 0 } = options;
  const literal = isIP(host);
  if (literal !== 0) {
    process.nextTick(() => {
      if (!socket.destroyed) found([{ address: host, family: literal }]);
    });
    return;
  }
  lookup(host, { all: true, family }, (error, result, resultFamily) => {
    if (socket.destroyed) return;
    if (error !== null) {
      socket.emit('lookup', error, undefined, undefined, host);
      socket.destroy(error);
      return;
    }
    // A lookup function of the application may ignore "all".
    const addresses =
      typeof result === 'string' ? [{ address: result, family: resultFamily ?? isIP(result) }] : result;
    for (const { address, family } of addresses) socket.emit('lookup', null, address, family, host);
    if (socket.destroyed) return;
    if (addresses.length === 0) socket.destroy(notFound(host));
    else found(options.autoSelectFamily === false ? addresses.slice(0, 1) : alternate(addresses));
  });
}

/** One attempt, with ENO; on a machine that cannot do it, plain TCP as ever, or nothing where encryption is required. */
function tryAddress(
  socket: Socket,
  { port, localAddress, localPort }: ConnectOptions,
  wanted: Encryption,
  { address, family }: LookupAddress,
  done: Parameters<Attempt>[1],
): TcpSocket {
  socket.emit('connectionAttempt', address, port, family);
  const target = { host: address, port, family: family === 6 ? 6 : 4, localAddress, localPort } as const;
  const ended: typeof done = (error, dialled) => {
    if (error !== undefined) socket.emit('connectionAttemptFailed', address, port, family, error);
    done(error, dialled);
  };
  try {
    return dial(target, wanted, ended);
  } catch (error) {
    const code = error instanceof TcpcryptError ? error.code : undefined;
    if (wanted.mode === 'required' || !withoutKernel(code)) {
      throw asSystemError(error, 'connect', address, port);
    }
    return dialPlain(target, code, ended);
  }
}

function dialPlain(target: DialTarget, reason: ErrorCode, done: Parameters<Attempt>[1]): TcpSocket {
  const { localAddress, localPort, host, port } = target;
  const transport = netConnect({
    host,
    port,
    allowHalfOpen: true,
    ...(localAddress === undefined ? {} : { localAddress }),
    ...(localPort === undefined ? {} : { localPort }),
  });
  transport.once('error', done);
  transport.once('connect', () => {
    transport.off('error', done);
    done(undefined, { transport, fd: -1, outcome: { result: 'plain', reason } });
  });
  return transport;
}

const notFound = (host: string): Error =>
  Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), {
    code: 'ENOTFOUND',
    syscall: 'getaddrinfo',
    hostname: host,
  });

/** Whether the error says that this machine cannot do ENO. */
export const withoutKernel = (code: ErrorCode | undefined): code is ErrorCode =>
  code === 'ERR_TCPCRYPT_KERNEL_ABSENT' || code === 'ERR_TCPCRYPT_PLATFORM';
