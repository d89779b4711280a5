/**
 * What programs do with the two ends of a connection, at random and as data, and what they see of it: the same sequence is
 * performed with different implementations, and must look the same.
 *
 * Between two steps the connection comes to rest, so that what is seen does not depend on how fast things go; within one,
 * everything is done at once.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { closing, type Implementation, listening } from './implementations.js';

export type End = 'client' | 'peer';

export type Operation =
  | { readonly do: 'write'; readonly bytes: number }
  | { readonly do: 'end'; readonly bytes: number }
  | { readonly do: 'timeout'; readonly milliseconds: number }
  | {
      readonly do:
        | 'cork'
        | 'uncork'
        | 'pause'
        | 'resume'
        | 'destroy'
        | 'destroy with an error'
        | 'reset'
        | 'destroySoon'
        | 'abort'
        | 'wait';
    };

/** How an end reads: 'nobody' does until somebody calls resume(). */
export type Reading = 'data' | 'readable' | 'nobody';

export interface Sequence {
  readonly halfOpen: Readonly<Record<End, boolean>>;
  readonly reading: Readonly<Record<End, Reading>>;
  /** Before the connection is there: the client's operations right after connect(), the peer's in the event. */
  readonly early: Readonly<Record<End, readonly Operation[]>>;
  readonly steps: readonly (readonly (readonly [End, Operation])[])[];
}

/** What each end has seen: events by step, what it has received, which of its writes succeeded, and what it says of itself. */
export type Seen = Readonly<Record<End, Readonly<Record<string, unknown>>>>;

const LONG = 60;

const operationOf = (sizes: readonly number[]): fc.Arbitrary<Operation> =>
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.constantFrom(...sizes).map((bytes) => ({ do: 'write', bytes }) as const),
    },
    { weight: 3, arbitrary: fc.constantFrom(0, 1, 10_000).map((bytes) => ({ do: 'end', bytes }) as const) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom(0, LONG / 2)
        .map((milliseconds) => ({ do: 'timeout', milliseconds }) as const),
    },
    {
      weight: 12,
      arbitrary: fc
        .constantFrom(
          ...([
            'cork',
            'uncork',
            'pause',
            'resume',
            'pause',
            'resume',
            'destroy',
            'destroy with an error',
          ] as const),
          ...(['reset', 'destroySoon', 'abort', 'wait'] as const),
        )
        .map((word) => ({ do: word }) as const),
    },
  );
const ends = <T>(of: fc.Arbitrary<T>) => fc.record({ client: of, peer: of });

/** node:net reads 64 KB at once, we more: whether something unread is left when a connection is destroyed must not depend on that. */
export const SMALL = [0, 1, 100, 4096, 16_383, 16_384];
export const ANY = [...SMALL, 60_000, 200_000];

export function sequence(sizes: readonly number[]): fc.Arbitrary<Sequence> {
  const operation = operationOf(sizes);
  return fc.record({
    halfOpen: ends(fc.boolean()),
    reading: ends(fc.constantFrom('data', 'data', 'readable', 'nobody')),
    // (A reset before the connection is there is one at once with us, and after it with net.Socket.)
    early: ends(
      fc.oneof(
        { weight: 2, arbitrary: fc.constant([]) },
        fc.array(
          operation.filter((one) => one.do !== 'reset'),
          { maxLength: 3 },
        ),
      ),
    ),
    steps: fc.array(
      fc.array(fc.tuple(fc.constantFrom<End[]>('client', 'peer'), operation), { minLength: 1, maxLength: 4 }),
      {
        maxLength: 6,
      },
    ),
  });
}

/** Of our own errors of the same meaning, Node's code. */
const wordOf = ({ code, message }: NodeJS.ErrnoException): string =>
  code === 'ERR_TCPCRYPT_CLOSED' ? 'ERR_SOCKET_CLOSED_BEFORE_CONNECTION' : (code ?? message);

/** One end as a program has it in hand. */
class Hand {
  readonly log: string[] = [];
  readonly #hash = createHash('sha256');
  readonly #written: string[] = [];
  readonly #controller: AbortController | undefined;
  readonly #key: number;
  #received = 0;
  #sent = 0;

  constructor(
    readonly socket: net.Socket,
    reading: Reading,
    key: number,
    controller?: AbortController,
  ) {
    this.#key = key;
    this.#controller = controller;
    for (const event of ['connect', 'ready', 'end', 'finish', 'timeout', 'drain'])
      socket.on(event, () => this.#note(event));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#note(`error ${wordOf(error)}`));
    socket.on('close', (hadError: boolean) => this.#note(`close ${hadError}`));
    if (reading === 'data') socket.on('data', (data: Buffer) => this.#take(data));
    if (reading === 'readable')
      socket.on('readable', () => {
        for (let data = socket.read(); data !== null; data = socket.read()) this.#take(data);
      });
    if (reading === 'nobody') socket.pause();
  }

  #take(data: Buffer): void {
    this.#hash.update(data);
    this.#received += data.length;
    this.#note('data');
  }

  /** How data are cut into pieces does not matter. */
  #note(what: string): void {
    if (what !== 'data' || this.log.at(-1) !== 'data') this.log.push(what);
  }

  perform(operation: Operation): void {
    const { socket } = this;
    const number = this.#written.length;
    const told = (error?: Error | null): void => {
      this.#written[number] += error ? ' failed' : ' done';
    };
    switch (operation.do) {
      case 'write':
        this.#written.push(`write ${operation.bytes}`);
        this.#note(`write ${socket.write(this.#bytes(operation.bytes), told)}`);
        break;
      case 'end':
        this.#written.push(`end ${operation.bytes}`);
        socket.end(this.#bytes(operation.bytes), told);
        break;
      case 'timeout':
        socket.setTimeout(operation.milliseconds);
        break;
      case 'destroy with an error':
        socket.destroy(new Error('my own'));
        break;
      case 'reset':
        socket.resetAndDestroy();
        break;
      case 'abort':
        this.#controller?.abort();
        break;
      case 'wait':
        break;
      default:
        socket[operation.do]();
    }
  }

  #bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length, (this.#key + this.#sent) & 0xff);
    this.#sent += 1;
    return bytes;
  }

  result(): Record<string, unknown> {
    const { socket } = this;
    const { readyState, destroyed, connecting, bytesRead, bytesWritten, errored } = socket;
    const {
      readable,
      readableEnded,
      readableFlowing,
      writable,
      writableEnded,
      writableFinished,
      writableLength,
    } = socket;
    return {
      // What was written before the connection was there, is sent before 'ready' by net.Socket, and after it by us.
      log: this.log.join(', ').replace('drain, ready', 'ready, drain'),
      received: `${this.#received} ${this.#hash.digest('hex').slice(0, 8)}`,
      written: this.#written.join(', '),
      state: {
        readyState,
        destroyed,
        connecting,
        // Who does not flow may have read ahead, a little more or less.
        bytesRead: readableFlowing ? bytesRead : 0,
        bytesWritten: errored ? 0 : bytesWritten,
        error: errored && wordOf(errored),
      },
      readable: { readable, readableEnded, readableFlowing },
      writable: { writable, writableEnded, writableFinished, writableLength },
    };
  }
}

export async function perform(
  { connect, createServer }: Implementation,
  { halfOpen, reading, early, steps }: Sequence,
): Promise<Seen> {
  const server = createServer({ allowHalfOpen: halfOpen.peer, noDelay: true });
  const port = await listening(server);
  const controller = new AbortController();
  let peer: Hand | undefined;
  server.on('connection', (socket) => {
    peer = new Hand(socket, reading.peer, 101);
    for (const operation of early.peer) peer.perform(operation);
  });
  const options = {
    port,
    host: '127.0.0.1',
    noDelay: true,
    allowHalfOpen: halfOpen.client,
    signal: controller.signal,
  };
  const client = new Hand(connect(options), reading.client, 7, controller);
  for (const operation of early.client) client.perform(operation);
  const hands = (): Hand[] => (peer === undefined ? [client] : [client, peer]);
  const rest = async (): Promise<void> => {
    const grown = (): number => hands().reduce((sum, { log }) => sum + log.length, 0);
    for (let length = -1; length !== grown(); ) {
      length = grown();
      for (let i = 0; i < 8; i++) await turn();
      await sleep(1);
      for (let i = 0; i < 8; i++) await turn();
    }
  };
  // The client may give up before anybody has heard of it.
  await Promise.race([once(client.socket, 'ready').catch(() => {}), closing(client.socket)]);
  await rest();
  for (const step of steps) {
    for (const { log } of hands()) log.push('-');
    for (const [end, operation] of step) (end === 'client' ? client : peer)?.perform(operation);
    if (step.some(([, operation]) => operation.do === 'wait')) await sleep(LONG);
    await rest();
  }
  const seen = { client: client.result(), peer: peer?.result() ?? {} };
  for (const { socket } of hands()) {
    if (socket.destroyed) continue;
    socket.on('error', () => {});
    const closed = closing(socket);
    socket.destroy();
    await closed;
  }
  server.close();
  await closing(server);
  return seen;
}
