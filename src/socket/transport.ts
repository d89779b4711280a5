/** What we do with a net.Socket below its public surface. */
import { Socket as TcpSocket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import * as libc from '../kernel/libc.js';
import { BareSocket } from './bare-socket.js';

/**
 * Makes a net.Socket of a descriptor that is not connected yet.
 * @param fd a TCP socket, prepared by setsockopt(2); from now on it belongs to the result
 * @returns half-open, so that the end of one direction is not the end of the other; call its `connect`
 */
export const transportOf = (fd: number): TcpSocket =>
  // `manualStart` (do not read before there is a connection) is older than TypeScript, but not in Node's types.
  new TcpSocket({ fd, manualStart: true, allowHalfOpen: true } as ConstructorParameters<typeof TcpSocket>[0]);

/** The descriptor below a connection, or -1. Node has no public word for it; this one has not changed since 0.x. */
export function descriptorOf(transport: TcpSocket): number {
  if (transport instanceof BareSocket) return transport.fd;
  const handle = (transport as unknown as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

/** `struct linger`: on, zero seconds. close(2) then sends RST and forgets what was not sent. */
export const NO_LINGER = Buffer.from(new Int32Array([1, 0]).buffer);
const LINGER_AS_USUAL = Buffer.from(new Int32Array([0, 0]).buffer);

/** Aborts a connection (RFC 793 ABORT): RST at once. Does nothing when it is closed already. */
export function reset(transport: TcpSocket): void {
  const fd = descriptorOf(transport);
  if (process.platform !== 'linux' || fd < 0) {
    if (fd >= 0) transport.resetAndDestroy();
    else transport.destroy();
    return;
  }
  // Not resetAndDestroy: while a FIN of ours waits to be sent it refuses, and never closes.
  libc.trySetsockopt(fd, libc.SOL_SOCKET, libc.SO_LINGER, NO_LINGER);
  transport.destroy();
}

/**
 * For a connection with {@link NO_LINGER}: it ends with RST unless both directions have ended in order; also when this
 * process is killed, as the kernel would otherwise send FIN, and a truncated stream would look complete. Linux only.
 */
export function lingerOnceEnded(transport: TcpSocket): void {
  const linger = (): void => {
    const fd = descriptorOf(transport);
    if (fd >= 0) libc.trySetsockopt(fd, libc.SOL_SOCKET, libc.SO_LINGER, LINGER_AS_USUAL);
  };
  if (transport instanceof BareSocket) {
    transport.onOver = linger;
    return;
  }
  const ended = (): void => {
    if (transport.readableEnded && transport.writableFinished) linger();
  };
  transport.on('end', ended);
  transport.on('finish', ended);
}

/**
 * To be asked at the event 'end': libuv takes a RST that arrives together with the last data for an end of file.
 * @returns the error that was meant
 */
export function errorAtEnd(transport: TcpSocket): Error | undefined {
  const fd = descriptorOf(transport);
  if (process.platform !== 'linux' || fd < 0) return undefined;
  const pending = libc.tryGetsockopt(fd, libc.SOL_SOCKET, libc.SO_ERROR, 4);
  const errno = typeof pending === 'number' ? 0 : pending.readInt32LE(0);
  if (errno === 0) return undefined;
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`read ${code}`), { code, errno: -errno, syscall: 'read' });
}
