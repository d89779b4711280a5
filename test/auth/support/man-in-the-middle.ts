/**
 * A man in the middle who can do all that can be done: he accepts the client's connection and speaks tcpcrypt with it,
 * opens one of his own to the server and speaks tcpcrypt with that, reads everything, and changes what he likes.
 */
import { labelledHash } from '#src/auth/labels.js';
import type { Server, Socket } from '#src/index.js';
import { type At, connected, listening } from './network.js';
import { message, messagesIn } from './pair.js';

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
  { host, listen, aware }: { readonly host?: string; readonly listen?: At; readonly aware?: boolean } = {},
): Promise<ManInTheMiddle> {
  const heard: Recorded = { fromClient: [], fromServer: [] };
  const sessionIds: Buffer[] = [];
  const { server, port } = await listening(
    (toClient) => {
      toClient.on('error', () => {});
      connected(target, host, aware).then(
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
    },
    listen,
    aware,
  );
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

/** He pretends to each end that both have the same session ID, and, if he can, that both saw the same HELLOs. */
export function corrected(agree: boolean): Change {
  const said = new Map<string, Buffer>();
  const heard = new Map<string, Buffer>();
  return (chunk, from, [idOfClient, idOfServer]) => {
    const pieces = messagesIn(chunk).map(({ type, body }) => {
      if (type === 1) {
        said.set(from, body);
        const changed = Buffer.from(body);
        (from === 'client' ? idOfServer : idOfClient)?.copy(changed, 8);
        heard.set(from, changed);
        return message(type, changed);
      }
      if (type === 2 && agree) {
        const none = Buffer.alloc(0);
        const hellos =
          from === 'client'
            ? [heard.get('client') ?? none, said.get('server') ?? none]
            : [said.get('client') ?? none, heard.get('server') ?? none];
        return message(type, labelledHash('agree', hellos));
      }
      return message(type, body);
    });
    return Buffer.concat(pieces);
  };
}
