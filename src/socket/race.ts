/**
 * Connecting to whichever of several addresses answers first ("Happy Eyeballs", RFC 8305): the next attempt starts
 * when the last one has failed, or has taken a while. Unlike net.connect, an attempt is not given up when the next
 * one starts: a path that drops unknown TCP options answers only the third SYN, which goes without ENO.
 */
import type { LookupAddress } from 'node:dns';
import type { Socket as TcpSocket } from 'node:net';
import type { Dialled } from './dial.js';

/** Starts one attempt and calls back exactly once. */
export type Attempt = (
  address: LookupAddress,
  done: (error: Error | undefined, dialled?: Dialled) => void,
) => TcpSocket;

export interface RaceOptions {
  /** At least one, in the order in which they are tried. */
  readonly addresses: readonly LookupAddress[];
  /** Milliseconds from the start of one attempt to that of the next. */
  readonly delay: number;
  readonly attempt: Attempt;
  /** Called once. */
  readonly done: (error: Error | undefined, dialled?: Dialled) => void;
}

export class Race {
  readonly #options: RaceOptions;
  readonly #running = new Set<TcpSocket>();
  readonly #errors: Error[] = [];
  #started = 0;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(options: RaceOptions) {
    this.#options = options;
    this.#startNext();
  }

  /** Gives up all attempts; `done` is not called any more. */
  cancel(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    for (const transport of this.#running) transport.destroy();
    this.#running.clear();
  }

  #startNext(): void {
    clearTimeout(this.#timer);
    const { addresses, attempt, delay } = this.#options;
    const address = addresses[this.#started];
    if (address === undefined) return;
    this.#started += 1;
    let transport: TcpSocket | undefined;
    try {
      transport = attempt(address, (error, dialled) => {
        if (transport !== undefined) this.#running.delete(transport);
        if (this.#over) dialled?.transport.destroy();
        else if (dialled === undefined) this.#failed(error ?? new Error('connection failed'));
        else this.#won(dialled);
      });
      this.#running.add(transport);
    } catch (error) {
      process.nextTick(() => this.#failed(error as Error));
      return;
    }
    if (this.#started < addresses.length) this.#timer = setTimeout(() => this.#startNext(), delay);
  }

  #won(dialled: Dialled): void {
    this.cancel();
    this.#options.done(undefined, dialled);
  }

  #failed(error: Error): void {
    if (this.#over) return;
    this.#errors.push(error);
    if (this.#started < this.#options.addresses.length) {
      this.#startNext();
    } else if (this.#running.size === 0) {
      this.#over = true;
      this.#options.done(together(this.#errors));
    }
  }
}

/** One error as it is; several as net.connect reports them, with the code of the first. */
function together(errors: readonly Error[]): Error | undefined {
  const [first] = errors;
  if (errors.length === 1 || first === undefined) return first;
  return Object.assign(new AggregateError(errors, first.message), {
    code: (first as NodeJS.ErrnoException).code,
  });
}

/** The addresses in an order that alternates between IPv6 and IPv4, beginning with the first one's family. */
export function alternate(addresses: readonly LookupAddress[]): LookupAddress[] {
  const first = addresses.filter(({ family }) => family === addresses[0]?.family);
  const second = addresses.filter(({ family }) => family !== addresses[0]?.family);
  const order: LookupAddress[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    for (const address of [first[i], second[i]]) if (address !== undefined) order.push(address);
  }
  return order;
}
