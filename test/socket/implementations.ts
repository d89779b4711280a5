/**
 * The same test against node:net and against us. Every implementation is a client and a server; the encrypted one
 * is ours at both ends, the mixed ones have node:net at one end and are therefore plain TCP.
 */
import { type EventEmitter, once } from 'node:events';
import net from 'node:net';
import { connect, createServer } from '#src/index.js';

export interface Implementation {
  readonly name: string;
  readonly connect: typeof net.connect;
  readonly createServer: typeof net.createServer;
}

const ourConnect = connect as unknown as typeof net.connect;
const ourCreateServer = createServer as unknown as typeof net.createServer;

export const NET: Implementation = { name: 'node:net', connect: net.connect, createServer: net.createServer };
export const ENCRYPTED: Implementation = {
  name: 'encrypted',
  connect: ourConnect,
  createServer: ourCreateServer,
};
export const OURS: readonly Implementation[] = [
  ENCRYPTED,
  { name: 'our client, node:net server', connect: ourConnect, createServer: net.createServer },
  { name: 'node:net client, our server', connect: net.connect, createServer: ourCreateServer },
];

/** The events of a socket in words, except how data were cut into pieces. Event 'secure' is ours alone. */
export function record(socket: EventEmitter): string[] {
  const log: string[] = [];
  const note = (text: string) => {
    if (text !== log.at(-1)) log.push(text);
  };
  for (const event of ['connect', 'ready', 'end', 'finish', 'timeout']) socket.on(event, () => note(event));
  socket.on('lookup', (error, address) => note(`lookup ${error?.code ?? address}`));
  socket.on('error', (error: NodeJS.ErrnoException) => note(`error ${error.code ?? error.message}`));
  socket.on('close', (hadError: boolean) => note(`close ${hadError}`));
  return log;
}

/** As {@link record}, with 'data', which makes the socket flow. */
export function recordData(socket: EventEmitter): string[] {
  const log = record(socket);
  socket.on('data', () => {
    if (log.at(-1) !== 'data') log.push('data');
  });
  return log;
}

export interface Pair {
  readonly client: net.Socket;
  /** The server's socket. */
  readonly peer: net.Socket;
  readonly server: net.Server;
  readonly port: number;
}

/** A connection over 127.0.0.1, ready at both ends. */
export async function pair(
  implementation: Implementation,
  options: { server?: net.ServerOpts; client?: Partial<net.TcpNetConnectOpts> } = {},
): Promise<Pair> {
  const server = implementation.createServer(options.server ?? {});
  const port = await listening(server);
  const accepted = once(server, 'connection');
  const client = implementation.connect({ port, host: '127.0.0.1', ...options.client });
  const ready = once(client, 'ready');
  const [[peer]] = await Promise.all([accepted, ready]);
  return { client, peer, server, port };
}

/** Starts a server on 127.0.0.1; its port. */
export async function listening(server: net.Server): Promise<number> {
  server.listen({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** Ends a pair, if need be by force. */
export async function dispose({ client, peer, server }: Pair): Promise<void> {
  for (const socket of [client, peer]) {
    socket.on('error', () => {});
    socket.destroy();
  }
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
}

/** Resolves on 'close', whatever comes before it. */
export const closing = (emitter: EventEmitter): Promise<void> =>
  new Promise((resolve) => emitter.once('close', () => resolve()));

/** What an 'error' of net.Socket tells. */
export type NetError = Error & {
  readonly code?: string;
  readonly syscall?: string;
  readonly address?: string;
  readonly port?: number;
  readonly errors?: readonly NetError[];
};

/** Resolves on 'error'. */
export const failing = (emitter: EventEmitter): Promise<NetError> =>
  new Promise((resolve) => emitter.once('error', resolve));
