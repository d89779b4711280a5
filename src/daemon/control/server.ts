/** The daemon's end of the control socket. Whoever may connect is decided by the file's permissions. */
import { once } from 'node:events';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { TcpcryptError } from '../../errors.js';
import { linesOf } from './lines.js';
import { type Answer, COMMANDS, type CommandName, REQUEST_LIMIT, type Request } from './protocol.js';

/** Tuned by us: clients at once, and how long one may be silent (ms). */
const CLIENTS_LIMIT = 16;
const IDLE_LIMIT = 60_000;
/** So many items are written before other work gets its turn. */
const BATCH = 200;

interface List {
  readonly items: Iterable<unknown> | AsyncIterable<unknown>;
}

/** What the commands do. A list is answered item by item. */
export type Handlers = Readonly<Record<CommandName, (request: Request) => unknown>>;

export class ControlServer {
  readonly #server: Server;
  readonly #handlers: Handlers;
  readonly #clients = new Set<Socket>();

  private constructor(handlers: Handlers) {
    this.#handlers = handlers;
    this.#server = createServer((client) => this.#accept(client));
    this.#server.maxConnections = CLIENTS_LIMIT;
    // Out of descriptors: the client is not served, and asks again.
    this.#server.on('error', () => {});
  }

  /** @param fd a listening Unix socket, from now on owned by the result */
  static async start(fd: number, handlers: Handlers): Promise<ControlServer> {
    const control = new ControlServer(handlers);
    control.#server.listen({ fd });
    await once(control.#server, 'listening');
    return control;
  }

  close(): void {
    this.#server.close();
    for (const client of this.#clients) client.destroy();
  }

  #accept(client: Socket): void {
    this.#clients.add(client);
    client.on('close', () => this.#clients.delete(client));
    client.on('error', () => {}); // 'close' follows
    client.setTimeout(IDLE_LIMIT, () => client.destroy());
    void this.#serve(client);
  }

  async #serve(client: Socket): Promise<void> {
    try {
      // Whoever asked too much shall hear so: the iterator must not destroy the client.
      const input = client.iterator({ destroyOnReturn: false });
      for await (const line of linesOf(input, REQUEST_LIMIT)) await this.#answer(client, line);
    } catch (error) {
      // Too long a line; or the client has gone in the middle.
      if (!client.destroyed) client.write(`${JSON.stringify(failure(error))}\n`);
    }
    // Whoever still writes is not waited for.
    client.end(() => client.destroy());
  }

  async #answer(client: Socket, line: string): Promise<void> {
    let result: unknown;
    try {
      const request = requestOf(line);
      result = await this.#handlers[request.command](request);
    } catch (error) {
      await send(client, failure(error));
      return;
    }
    if (!isList(result)) {
      await send(client, { result });
      return;
    }
    let count = 0;
    for await (const item of result.items) {
      const flows = client.write(`${JSON.stringify({ item })}\n`);
      count++;
      if (!flows) await drained(client);
      else if (count % BATCH === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await send(client, { result: { count } });
  }
}

function requestOf(line: string): Request {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    throw argument('a request is a line of JSON');
  }
  const { command, address } = (typeof request === 'object' && request !== null ? request : {}) as {
    command?: unknown;
    address?: unknown;
  };
  const known = COMMANDS.find((name) => name === command);
  if (known === undefined) throw argument(`the commands are ${COMMANDS.join(', ')}`);
  if (address === undefined) return { command: known };
  if (typeof address !== 'string' || isIP(address) === 0) throw argument('"address" is an IP address');
  return { command: known, address };
}

const isList = (result: unknown): result is List =>
  typeof result === 'object' && result !== null && 'items' in result;

async function send(client: Socket, answer: Answer): Promise<void> {
  if (!client.write(`${JSON.stringify(answer)}\n`)) await drained(client);
}

/** Rejects when the client goes away instead. */
async function drained(client: Socket): Promise<void> {
  if (client.destroyed) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED');
  const gone = new AbortController();
  const onClose = (): void => gone.abort();
  client.once('close', onClose);
  try {
    await once(client, 'drain', { signal: gone.signal });
  } finally {
    client.off('close', onClose);
  }
}

const argument = (detail: string): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail });

function failure(error: unknown): Answer {
  const { code = 'unknown', message } = error as NodeJS.ErrnoException;
  return { error: { code, message: String(message) } };
}
