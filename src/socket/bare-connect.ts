/**
 * Opening a connection without the net.Socket that Node does it with: by its handle (adopt.ts) and its request, whose class
 * has no public name. It is learnt from the first connection, which net.Socket makes; where it does not look as expected,
 * net.Socket makes all of them.
 */
import type { Socket as TcpSocket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { bareOn, learnHandles } from './adopt.js';
import type { BareSocket, TcpHandle, TcpOwner } from './bare-socket.js';

/** What we use of Node's handle before there is a connection. */
interface ConnectingHandle extends TcpHandle {
  bind(address: string, port: number): number;
  bind6(address: string, port: number, flags: number): number;
  connect(request: Request, address: string, port: number): number;
  connect6(request: Request, address: string, port: number): number;
}

interface Request {
  oncomplete: ((status: number) => void) | undefined;
}

let requests: (new () => Request) | undefined;

export interface ConnectTarget {
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  readonly localAddress?: string | undefined;
}

/** Called once, later: with undefined when it is connected, or with the error, also where the attempt is destroyed. */
type Connected = (error: Error | undefined) => void;

/**
 * @param fd a TCP socket, prepared by setsockopt(2); where there is a result, it belongs to that
 * @returns the connection-to-be, which nobody owns once it is one; undefined where net.Socket must do it
 */
export function connectBare(fd: number, target: ConnectTarget, connected: Connected): BareSocket | undefined {
  const bare = requests && bareOn(fd);
  if (requests === undefined || bare === undefined) return undefined;
  const handle = bare._handle as ConnectingHandle;
  const attempt = new Attempt(bare, connected);
  const { host, port, family, localAddress } = target;
  const six = family === 6;
  if (localAddress !== undefined) {
    const status = six ? handle.bind6(localAddress, 0, 0) : handle.bind(localAddress, 0);
    if (status !== 0) {
      process.nextTick(() => attempt.over(connectError('bind', status, localAddress)));
      return bare;
    }
  }
  const failed = (status: number): Error => connectError('connect', status, host, port);
  const request = new requests();
  request.oncomplete = (status) => {
    request.oncomplete = undefined; // V8 keeps the request for a while, and whatever it leads to
    if (!bare.destroyed) attempt.over(status === 0 ? undefined : failed(status));
  };
  const status = six ? handle.connect6(request, host, port) : handle.connect(request, host, port);
  if (status !== 0) {
    const error = failed(status);
    error.message += ` - Local (${bare.localAddress}:${bare.localPort})`;
    process.nextTick(() => attempt.over(error));
  }
  return bare;
}

class Attempt implements TcpOwner {
  readonly #bare: BareSocket;
  #connected: Connected | undefined;

  constructor(bare: BareSocket, connected: Connected) {
    this.#bare = bare;
    this.#connected = connected;
    bare.owner = this;
  }

  over(error: Error | undefined): void {
    const connected = this.#connected;
    this.#connected = undefined;
    this.#bare.owner = undefined;
    if (error !== undefined) this.#bare.destroy();
    connected?.(error);
  }

  handleClosed(): void {
    this.over(givenUp());
  }

  // Nothing is read or written yet.
  handleData(): void {}
  handleEnd(): void {}
  handleDrain(): void {}
  handleError(): void {}
}

export const givenUp = (): Error => new Error('the connection attempt was given up');

/** As net.Socket reports it. */
function connectError(syscall: string, errno: number, address: string, port?: number): Error {
  const code = getSystemErrorName(errno);
  const place = port === undefined ? { address } : { address, port };
  const message = `${syscall} ${code} ${Object.values(place).join(':')}`;
  return Object.assign(new Error(message), { errno, code, syscall, ...place });
}

/** Learns from a net.Socket that is about to connect. */
export function learnToConnect(transport: TcpSocket): void {
  const handle = (transport as unknown as { _handle: Partial<ConnectingHandle> | null })._handle;
  if (requests !== undefined || handle === null) return;
  learnHandles(transport);
  const { bind, bind6, connect, connect6 } = handle;
  if (![bind, bind6, connect, connect6].every((method) => typeof method === 'function')) return;
  const learn = (method: 'connect' | 'connect6', own: ConnectingHandle['connect']): void => {
    handle[method] = function (this: ConnectingHandle, request, address, port) {
      delete handle.connect;
      delete handle.connect6;
      requests = request.constructor as new () => Request;
      return own.call(this, request, address, port);
    };
  };
  if (connect !== undefined) learn('connect', connect);
  if (connect6 !== undefined) learn('connect6', connect6);
}
