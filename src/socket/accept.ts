/** The connections that a net.Server accepts, without the net.Socket that it makes for each; see bare-socket.ts. */
import type { Server as TcpServer, Socket as TcpSocket } from 'node:net';
import { bareSocket, type Counting, type TcpHandle, withoutStreams } from './bare-socket.js';

/** A net.Server below its public surface. */
interface Internals extends Counting {
  readonly _handle?: { onconnection?: (error: number, client: TcpHandle) => void } | null;
}

/**
 * Calls `accept` with every connection of `server`, which does not listen yet. Its maxConnections, 'drop', 'error',
 * getConnections() and close() work as ever; it emits 'connection' only where this Node has no words for the other way, or goes on at its limit.
 */
export function onConnection(server: TcpServer, accept: (transport: TcpSocket) => void): void {
  server.on('connection', (transport) => accept(withoutStreams(transport)));
  server.on('listening', () => {
    const inside = server as unknown as Internals;
    const listener = inside._handle;
    const byServer = listener?.onconnection;
    if (!listener || typeof byServer !== 'function' || typeof inside._connections !== 'number') return;
    if (typeof inside._emitCloseIfDrained !== 'function') return;
    listener.onconnection = function (error, client) {
      // What net.Server makes of a limit, 0 above all, differs between versions of Node: it decides when one is reached.
      const full = inside._connections >= (server.maxConnections ?? Number.POSITIVE_INFINITY);
      const transport = error || full ? undefined : bareSocket(client, inside);
      if (transport === undefined) {
        byServer.call(this, error, client);
        return;
      }
      inside._connections += 1;
      accept(transport);
    };
  });
}
