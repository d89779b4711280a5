/** A process on a host of the test network, driven by the test through its IPC channel; see network.ts. */
import { connect, createServer, type Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Guard } from '#src/kernel/guard.js';
import {
  AF_INET,
  AF_INET6,
  bind,
  IP_TRANSPARENT,
  IPV6_TRANSPARENT,
  SO_MARK,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  setsockopt,
  socket,
  tryGetsockopt,
} from '#src/kernel/libc.js';
import { NfQueue } from '#src/kernel/nfqueue.js';
import { MARK } from '#src/kernel/packet-marks.js';
import type { Segment } from '#src/kernel/segment.js';
import { addressText, sockaddr } from '#src/kernel/sockaddr.js';
import { Steering, type SteeringOptions } from '#src/kernel/steering.js';
import { uninstallScript } from '#src/kernel/uninstall-script.js';
import { rawExchange } from './raw-tcp.js';

export interface ListenOptions {
  /** Stands at the beginning of the greeting that every client gets. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly mark?: number;
  readonly transparent?: boolean;
  /** Connect every client with the real server, from the client's address, instead of greeting it. */
  readonly relay?: boolean;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** Sent after the greeting; the server sends it back, or resets the connection if it is "reset". */
  readonly data?: string;
  readonly mark?: number;
  readonly localPort?: number;
}

export interface Connected {
  /** What the server sent: `name, client, address of the server (for destination before REDIRECT)`. */
  readonly greeting: string;
  readonly echoed: string;
  readonly local: string;
  /** Until connected, or until the error. */
  readonly milliseconds: number;
  readonly error: string;
}

export type Verdict = 'accept' | 'redirect' | 'refuse' | 'drop' | 'hold';

export interface SeenSegment extends Omit<Segment, 'options'> {
  readonly uid: number | undefined;
  readonly mark: number;
  /** Kinds of its TCP options. */
  readonly options: number[];
}

const SO_ORIGINAL_DST = 80;

const servers = new Map<string, { server: Server; clients: Set<Socket> }>();
let queue: NfQueue | undefined;
let verdict: Verdict = 'accept';
const seen: SeenSegment[] = [];
const queueErrors: string[] = [];
let steering: Steering | undefined;
let guard: Guard | undefined;

const operations = {
  async listen(options: ListenOptions): Promise<void> {
    const { name, host, port, mark, transparent = false, relay = false } = options;
    const fd = streamSocket(host, mark, transparent);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(fd, sockaddr(host, port));
    const clients = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (client) => {
      clients.add(client);
      client.on('error', () => {}).on('close', () => clients.delete(client));
      if (relay) relayToServer(client);
      else {
        const peer = `${client.remoteAddress}`.replace('::ffff:', '');
        const local = `${client.localAddress}`.replace('::ffff:', '');
        const address = `${local}:${client.localPort}`;
        const original = originalDestination(client);
        client.write(
          `${name} ${peer} ${address}${original === undefined || original === address ? '' : ` for ${original}`}\n`,
        );
        client.once('data', (data) => `${data}` === 'reset' && client.resetAndDestroy());
        client.pipe(client);
      }
    });
    servers.set(name, { server, clients });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd }, resolve);
    });
  },

  async unlisten(name: string): Promise<void> {
    const { server, clients } = servers.get(name) ?? {};
    const closed = new Promise((resolve) => server?.close(resolve));
    for (const client of clients ?? []) client.destroy();
    await closed;
  },

  connect({ host, port, data = 'ping', mark, localPort }: ConnectOptions): Promise<Connected> {
    const started = performance.now();
    return new Promise((resolve) => {
      const client =
        mark === undefined
          ? connect({ host, port, ...(localPort === undefined ? {} : { localPort }) })
          : // `manualStart` is missing in the types.
            new Socket({ fd: streamSocket(host, mark, false), manualStart: true } as object).connect({
              host,
              port,
            });
      let milliseconds = 0;
      let local = '';
      let error = '';
      let received = '';
      client.setTimeout(5000, () => client.destroy(new Error('timeout')));
      client.once('connect', () => {
        milliseconds = performance.now() - started;
        local = `${client.localAddress}:${client.localPort}`;
      });
      client.on('data', (bytes) => {
        const greeted = received.includes('\n');
        received += bytes.toString();
        if (greeted || !received.includes('\n')) return;
        if (data === 'reset') client.write(data);
        else client.end(data);
      });
      client.once('error', (e: NodeJS.ErrnoException) => {
        milliseconds ||= performance.now() - started;
        error = e.code ?? e.message;
      });
      client.once('close', () => {
        const [greeting = '', echoed = ''] = received.split('\n');
        resolve({ greeting, echoed, local, milliseconds, error });
      });
    });
  },

  rawExchange,

  openQueue(number: number, first: Verdict, options: { maxHeld?: number; whenFull?: 'drop' } = {}): void {
    verdict = first;
    seen.length = 0;
    queue = NfQueue.open({
      ...options,
      queue: number,
      onError: (error) => queueErrors.push(error.message),
      onPacket: ({ id, mark, uid, segment }) => {
        if (segment !== undefined)
          seen.push({ ...segment, uid, mark, options: optionKinds(segment.options) });
        decide(id, mark);
      },
    });
  },

  setVerdict(next: Verdict): void {
    verdict = next;
  },

  /** What the queue has shown since the last call. */
  takeSeen(): SeenSegment[] {
    return seen.splice(0);
  },

  counters: () => queue?.counters,

  queueErrors: () => queueErrors,

  async closeQueue(): Promise<void> {
    await queue?.close();
  },

  installSteering(options: SteeringOptions, guarded = false): void {
    if (guarded) guard = new Guard(uninstallScript());
    steering = Steering.install(options);
  },

  async uninstallSteering(): Promise<void> {
    steering?.uninstall();
    await guard?.standDown();
  },

  removeLeftovers: () => Steering.removeLeftovers(),

  dropPrivileges(): void {
    process.setgid?.(65534);
    process.setuid?.(65534);
  },

  exit(): void {
    process.exit();
  },

  sleep: (milliseconds: number) => sleep(milliseconds),
};
export type Operations = typeof operations;

function decide(id: number, mark: number): void {
  if (verdict === 'accept') queue?.accept(id);
  else if (verdict === 'redirect') queue?.accept(id, mark | MARK.REDIRECT);
  else if (verdict === 'refuse') queue?.accept(id, mark | MARK.REFUSE);
  else if (verdict === 'drop') queue?.drop(id);
}

function streamSocket(host: string, mark: number | undefined, transparent: boolean): number {
  const v6 = host.includes(':');
  const fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (mark !== undefined) setsockopt(fd, SOL_SOCKET, SO_MARK, mark);
  if (transparent) setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1);
  return fd;
}

/** What the daemon does with a steered connection, in its plainest form. */
function relayToServer(client: Socket): void {
  const { localAddress: host = '', localPort: port = 0, remoteAddress = '', remotePort = 0 } = client;
  const fd = streamSocket(host, MARK.LOCAL_DELIVERY | MARK.DAEMON_SOCKET, true);
  // The client's own port is taken, by the very connection that is relayed.
  bind(fd, sockaddr(remoteAddress, remotePort ^ 1));
  const server = new Socket({ fd, manualStart: true, allowHalfOpen: true } as object).connect({ host, port });
  server.on('error', () => client.destroy());
  client.pipe(server).pipe(client);
}

/** Where the client went before REDIRECT; undefined where connection tracking knows nothing of it. */
function originalDestination(client: Socket): string | undefined {
  const { fd } = (client as unknown as { _handle: { fd: number } })._handle;
  const v6 = client.remoteFamily === 'IPv6';
  const address = tryGetsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, SO_ORIGINAL_DST, 28);
  if (typeof address === 'number') return undefined;
  const port = address.readUInt16BE(2);
  return v6
    ? `${addressText(address.subarray(8, 24))}:${port}`
    : `${address.subarray(4, 8).join('.')}:${port}`;
}

function optionKinds(options: Uint8Array): number[] {
  const kinds: number[] = [];
  for (let i = 0; i < options.length; ) {
    const kind = options[i] ?? 0;
    kinds.push(kind);
    i += kind <= 1 ? 1 : Math.max(options[i + 1] ?? 2, 2);
  }
  return kinds;
}

process.on('disconnect', () => process.exit());
process.on(
  'message',
  async ({ id, operation, args }: { id: number; operation: keyof Operations; args: never[] }) => {
    try {
      const run = operations[operation] as (...args: never[]) => unknown;
      process.send?.({ id, result: await run(...args) });
    } catch (error) {
      process.send?.({ id, error: `${error instanceof Error ? error.message : error}` });
    }
  },
);
