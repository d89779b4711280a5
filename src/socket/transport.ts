/** What net.Socket does not offer: making one of a descriptor that is not connected yet, and exact resets. */
import { Socket as TcpSocket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { SO_ERROR, SO_LINGER, SOL_SOCKET, tryGetsockopt, trySetsockopt } from '../kernel/libc.js';

/**
 * @param fd a TCP socket, prepared by setsockopt(2); from now on it belongs to the result
 * @returns half-open, so that the end of one direction is not the end of the other; call its `connect`
 */
export const transportOf = (fd: number): TcpSocket =>
  // `manualStart` (do not read before there is a connection) is older than TypeScript, but not in Node's types.
  new TcpSocket({ fd, manualStart: true, allowHalfOpen: true } as ConstructorParameters<typeof TcpSocket>[0]);

/** The descriptor below a connection, or -1. Node has no public word for it; this one has not changed since 0.x. */
export function descriptorOf(transport: TcpSocket): number {
  const handle = (transport as unknown as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

/** `struct linger`: close(2) sends RST and discards what is still to be sent, or goes on as usual. */
const LINGER_RESET = Buffer.from(new Uint32Array([1, 0]).buffer);
const LINGER_OFF = Buffer.from(new Uint32Array([0, 0]).buffer);

/**
 * Resets the connection (RFC 793 ABORT), whatever is still to be written. Node's `resetAndDestroy` fails, and
 * leaves the socket open, while a shutdown(2) is under way.
 */
export function reset(transport: TcpSocket): void {
  const fd = descriptorOf(transport);
  if (fd >= 0) trySetsockopt(fd, SOL_SOCKET, SO_LINGER, LINGER_RESET);
  transport.destroy();
}

/**
 * From now on the connection ends with RST unless both directions have ended in order: also when this process is
 * killed, as the kernel would otherwise send FIN, and a truncated stream would look complete.
 */
export function resetUnlessEnded(transport: TcpSocket): void {
  const fd = descriptorOf(transport);
  if (fd < 0) return;
  trySetsockopt(fd, SOL_SOCKET, SO_LINGER, LINGER_RESET);
  const endedInOrder = (): void => {
    const descriptor = descriptorOf(transport);
    if (descriptor >= 0 && transport.readableEnded && transport.writableFinished) {
      trySetsockopt(descriptor, SOL_SOCKET, SO_LINGER, LINGER_OFF);
    }
  };
  transport.on('end', endedInOrder);
  transport.on('finish', endedInOrder);
}

/**
 * To be asked at the event 'end': libuv takes a RST that arrives together with the last data for an end of file.
 * @returns the error that was meant
 */
export function errorAtEnd(transport: TcpSocket): Error | undefined {
  const fd = descriptorOf(transport);
  const pending = fd < 0 ? 0 : tryGetsockopt(fd, SOL_SOCKET, SO_ERROR, 4);
  const errno = typeof pending === 'number' ? 0 : pending.readInt32LE(0);
  if (errno === 0) return undefined;
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`read ${code}`), { code, errno: -errno, syscall: 'read' });
}
