/** Connections that this process has not opened or accepted by Node: it has their descriptors. */
import type { Socket as TcpSocket } from 'node:net';
import { bareSocket, knowsHandles, type TcpHandle, withoutStreams } from './bare-socket.js';
import { transportOf } from './transport.js';

/** Node's class of TCP handles, which has no public name. */
type HandleClass = new (type: number) => TcpHandle;
/** What a handle is for; the other one listens. */
const CONNECTION = 0;

let handles: HandleClass | undefined;

/**
 * @param fd an established connection, half-open; from now on it belongs to the result
 * @returns a {@link BareSocket}, or a net.Socket where this Node has no words for it
 */
export function adopt(fd: number): TcpSocket {
  const handle = handles && knowsHandles() ? new handles(CONNECTION) : undefined;
  if (handle?.open?.(fd) === 0) return bareSocket(handle, null) ?? transportOf(fd);
  // net.Socket finds out what the descriptor is, by four system calls, and makes the handle itself.
  const transport = transportOf(fd);
  handles = (transport as unknown as { _handle: TcpHandle })._handle.constructor as HandleClass;
  return withoutStreams(transport);
}
