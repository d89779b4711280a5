/**
 * A man in the middle who can do all that can be done: he accepts the client's connection and speaks tcpcrypt with it,
 * opens one of his own to the server and speaks tcpcrypt with that, reads everything, and changes what he likes.
 */
import type { Server, Socket } from '#src/index.js';
import { connected, listening } from './network.js';

export interface Recorded {
  readonly fromClient: Buffer[];
  readonly fromServer: Buffer[];
}

export interface ManInTheMiddle {
  readonly port: number;
  readonly server: Server;
  readonly heard: Recorded;
  /** The session IDs of his two connections. */
  readonly sessionIds: Buffer[];
}

export type Change = (chunk: Buffer, from: 'client' | 'server', ids: readonly Buffer[]) => Buffer;

export async function manInTheMiddle(
  target: number,
  change: Change = (chunk) => chunk,
): Promise<ManInTheMiddle> {
  const heard: Recorded = { fromClient: [], fromServer: [] };
  const sessionIds: Buffer[] = [];
  const { server, port } = await listening((toClient) => {
    toClient.on('error', () => {});
    connected(target).then(
      (toServer) => {
        sessionIds.push(toClient.sessionId, toServer.sessionId);
        glue(toClient, toServer, (chunk) => {
          heard.fromClient.push(chunk);
          return change(chunk, 'client', sessionIds);
        });
        glue(toServer, toClient, (chunk) => {
          heard.fromServer.push(chunk);
          return change(chunk, 'server', sessionIds);
        });
      },
      () => toClient.resetAndDestroy(),
    );
  });
  return { port, server, heard, sessionIds };
}

function glue(from: Socket, to: Socket, pass: (chunk: Buffer) => Buffer): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.destroyed && !to.writableEnded) to.write(pass(chunk));
  });
  from.on('end', () => to.end());
  from.on('error', () => {});
  from.on('close', () => {
    if (!to.writableEnded) to.resetAndDestroy();
  });
}
