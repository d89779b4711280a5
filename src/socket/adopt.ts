/** Handles of Node for descriptors of ours, without the net.Socket that it makes with each. */
import type { Socket as TcpSocket } from 'node:net';
import { type BareSocket, bareSocket, type TcpHandle, withoutStreams } from './bare-socket.js';
import { transportOf } from './transport.js';

/** Node's class of TCP handles, which has no public name; learnt from the first one that is seen. */
type HandleClass = new (type: number) => TcpHandle;
/** What a handle is for; others listen. */
const CONNECTION = 0;

let handles: HandleClass | undefined;

/** Learns from a net.Socket that has a handle. */
export function learnHandles(transport: TcpSocket): void {
  const { _handle: handle } = transport as unknown as { readonly _handle: TcpHandle | null };
  if (handle !== null && typeof handle.open === 'function') handles ??= handle.constructor as HandleClass;
}

/** @returns a connection, or one to be, on the descriptor, which belongs to it then; undefined where net.Socket must do it */
export function bareOn(fd: number): BareSocket | undefined {
  if (handles === undefined) return undefined;
  const handle = new handles(CONNECTION);
  const bare = bareSocket(handle, null);
  if (bare === undefined || handle.open?.(fd) !== 0) {
    handle.close(() => {});
    return undefined;
  }
  bare.fd = fd;
  return bare;
}

/**
 * @param fd an established connection that Node neither opened nor accepted; from now on it belongs to the result
 * @returns a {@link BareSocket}, or a net.Socket where this Node has no words for it
 */
export function adopt(fd: number): TcpSocket {
  const bare = bareOn(fd);
  if (bare !== undefined) return bare;
  // net.Socket finds out what the descriptor is, by four system calls, and makes the handle itself.
  const transport = transportOf(fd);
  learnHandles(transport);
  return withoutStreams(transport);
}
