/** Making a net.Socket of a descriptor that is not connected yet. */
import { Socket as TcpSocket } from 'node:net';

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
