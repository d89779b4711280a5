/**
 * Connections of applications on this host between their SYN and their arrival at the relay port. Each is watched: an
 * application need not say when it has lost its patience, so every now and then the kernel is asked whether its socket is
 * still there.
 */
import type { Socket as TcpSocket } from 'node:net';
import type { Tuple } from '../kernel/carried.js';
import { SockDiag, type SocketName } from '../kernel/sock-diag.js';
import type { Encryption } from '../socket/options.js';
import { TransientMap } from '../transient-map.js';
import type { Relay } from './relay.js';

/** Milliseconds between two looks whether applications still wait. */
const LOOK = 2_000;

export class Expected {
  /** Once the far host has answered, and the SYN is released. */
  relay: Relay | 'reset' | undefined = undefined;
  attempt: TcpSocket | undefined = undefined;
  /** The application was gone before the far host had answered. */
  givenUp = false;
  /** When its patience counts as lost in any case (ms). */
  deadline = Number.POSITIVE_INFINITY;

  constructor(
    /** As the application's socket sees it. */
    readonly tuple: Tuple,
    /** Both ends of it, as "address:port". */
    readonly from: string,
    readonly to: string,
    readonly socket: SocketName,
    /** In mode 'required' by the policy `private`, or because the application wishes it. */
    readonly encryption: Encryption,
    /** Whether the result is one of the path, and not of what the application wishes or the far host cannot prove. */
    readonly teaches: boolean,
    /** When the far host was asked (ms). */
    readonly asked: number,
  ) {}
}

export class ExpectedConnections {
  readonly #onGone: (expected: Expected) => void;
  readonly #diag = new SockDiag();
  /** By {@link keyOf}. */
  readonly #all = new TransientMap<string, Expected>();
  /** How many of them go to a destination. */
  readonly #towards = new Map<string, number>();
  #watch: NodeJS.Timeout | undefined;

  /** @param onGone called at every look from when the application has gone until the connection is deleted */
  constructor(onGone: (expected: Expected) => void) {
    this.#onGone = onGone;
  }

  get size(): number {
    return this.#all.size;
  }

  [Symbol.iterator](): Iterator<Expected> {
    return this.#all.values();
  }

  find(from: string, to: string): Expected | undefined {
    return this.#all.get(keyOf(from, to));
  }

  /** The only one whose SYN is released to go there; undefined when there are several. */
  onlyOneTowards(to: string): Expected | undefined {
    const [one, ...others] = [...this.#all.values()].filter(
      (expected) => expected.relay !== undefined && expected.to === to,
    );
    return others.length === 0 ? one : undefined;
  }

  hasTowards(to: string): boolean {
    return this.#towards.has(to);
  }

  add(expected: Expected): void {
    const { from, to } = expected;
    this.#all.set(keyOf(from, to), expected);
    this.#towards.set(to, (this.#towards.get(to) ?? 0) + 1);
    this.#watch ??= setInterval(() => this.#look(), LOOK);
  }

  /** @returns whether it was there */
  delete(expected: Expected): boolean {
    const { from, to } = expected;
    const key = keyOf(from, to);
    if (this.#all.get(key) !== expected) return false;
    this.#all.delete(key);
    const others = (this.#towards.get(to) ?? 1) - 1;
    if (others > 0) this.#towards.set(to, others);
    else this.#towards.delete(to);
    return true;
  }

  /** Whether the application's socket is still there; it counts as being where the kernel cannot tell. */
  waits(socket: SocketName): boolean {
    return this.#diag.finds(socket) !== false;
  }

  close(): void {
    clearInterval(this.#watch);
    this.#diag.close();
  }

  #look(): void {
    if (this.#all.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    const now = Date.now();
    for (const expected of this.#all.values())
      if (now >= expected.deadline || !this.waits(expected.socket)) this.#onGone(expected);
  }
}

const keyOf = (from: string, to: string): string => `${from} ${to}`;
