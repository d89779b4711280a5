/** How much the daemon takes on: relayed connections and held SYNs, and what the process's descriptors allow. */
import * as libc from '../kernel/libc.js';
import type { Limit } from './shedding.js';

/** Tuned by us. */
export const MAX_CONNECTIONS = 20_000;
/** SYNs held at once; above it, SYNs pass unencrypted and are counted. */
export const MAX_HELD = 1024;
/** Inbound key exchanges at once; above it, the oldest one is given up. */
const MAX_HANDSHAKES = 1024;
/** A connection needs two, one on either side. */
const FILES_PER_CONNECTION = 2;
/** For listeners, control clients, tools that are run, and connections that wait to be closed. */
const FILES_IN_RESERVE = 96;
/** The process's limit of descriptors is asked for again after so long (ms). */
const FILES_KNOWN = 100;
/** Having been full, take connections again from here on: a part of the limit. */
const RELIEF = 0.9;

export interface Limits {
  readonly maxConnections?: number;
  readonly maxHeld?: number;
  readonly maxHandshakes?: number;
}

export const withDefaults = ({ maxConnections, maxHeld, maxHandshakes }: Limits = {}): Required<Limits> => ({
  maxConnections: maxConnections ?? MAX_CONNECTIONS,
  maxHeld: maxHeld ?? MAX_HELD,
  maxHandshakes: maxHandshakes ?? MAX_HANDSHAKES,
});

export class Capacity {
  readonly maxConnections: number;
  readonly maxHeld: number;
  readonly maxHandshakes: number;
  readonly #sources: (() => number)[] = [];
  #files = 0;
  #filesAsked = 0;

  constructor(limits: Limits = {}) {
    const { maxConnections, maxHeld, maxHandshakes } = withDefaults(limits);
    this.maxConnections = maxConnections;
    this.maxHeld = maxHeld;
    this.maxHandshakes = maxHandshakes;
  }

  /** `count` tells how many connections its owner has in hand. */
  watch(count: () => number): void {
    this.#sources.push(count);
  }

  /** Connections in hand, all together. */
  get load(): number {
    return this.#sources.reduce((sum, count) => sum + count(), 0);
  }

  /** The limit that forbids one more connection. */
  get exhausted(): Limit | undefined {
    const { load } = this;
    if (load >= this.maxConnections) return 'connections';
    return load >= this.#fileLimit() ? 'files' : undefined;
  }

  /** Whether there is room again, some of it, after it was exhausted. */
  get relieved(): boolean {
    return this.load < RELIEF * Math.min(this.maxConnections, this.#fileLimit());
  }

  /**
   * Connections that the descriptors suffice for. Asked anew, though not for every connection: the limit may be changed from
   * outside, prlimit(2).
   */
  #fileLimit(): number {
    const now = Date.now();
    if (now < this.#filesAsked || now >= this.#filesAsked + FILES_KNOWN) {
      this.#filesAsked = now;
      this.#files = libc.openFilesLimit() - FILES_IN_RESERVE;
    }
    return Math.max(1, Math.floor(this.#files / FILES_PER_CONNECTION));
  }
}

/** An error that says: all local ports are taken, for this destination. */
export const isOutOfPorts = (error: unknown): boolean => {
  const { code, errno } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'EADDRNOTAVAIL' || Math.abs(errno ?? 0) === libc.EADDRNOTAVAIL;
};

/** An error that says: the process, or the machine, is out of descriptors. */
export const isOutOfFiles = (error: unknown): boolean => {
  const { code, errno } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE' || [libc.EMFILE, libc.ENFILE].includes(Math.abs(errno ?? 0));
};
