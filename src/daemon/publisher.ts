/** Tells the kernel what an application may know of its connection; what goes wrong with that harms no connection. */
import type { CarriedConnections, CarriedEntry, Secured, Tuple } from '../kernel/carried.js';
import type { Channel } from '../socket/channel.js';
import type { ConnectionLog } from './connection-log.js';

export interface Publication {
  readonly tuple: Tuple;
  /** What the application's socket is: connected by it, or to be accepted. */
  readonly opener: 'active' | 'passive';
  /** `struct tcp_eno_state` of the connection to the far host; undefined where ENO was never on. */
  readonly state: Buffer | undefined;
  /** The a bits are the daemons' own, and not for the application, which may speak another protocol. */
  readonly aware: boolean;
}

export class Publisher {
  readonly #carried: CarriedConnections;
  readonly #log: ConnectionLog;
  /** Of connections that have ended in this turn. */
  #ended: CarriedEntry[] = [];

  constructor(carried: CarriedConnections, log: ConnectionLog) {
    this.#carried = carried;
    this.#log = log;
  }

  /** @param channel when it can carry data already, see {@link Published.ready} */
  publish({ tuple, opener, state, aware }: Publication, channel?: Channel): Published {
    if (state === undefined) return new Published(this, undefined);
    if (aware) state.writeUInt8(state.readUInt8(PEER_GOPT) & ~AWARE, PEER_GOPT);
    const secured = channel && securedBy(channel);
    const entry = this.attempt(() => this.#carried.publish(tuple, opener, state, secured));
    if (entry !== undefined && secured !== undefined) entry.flush = () => channel?.flushResumption();
    return new Published(this, entry);
  }

  /** @internal */
  end(entry: CarriedEntry): void {
    // The application's socket takes over what is published when it is closed or reset, which comes first.
    if (this.#ended.push(entry) > 1) return;
    setImmediate(() => {
      for (const ended of this.#ended.splice(0)) this.attempt(() => ended.close());
    });
  }

  /** @internal */
  attempt<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.count('unpublished');
      this.#log.debug('the session ID is not published', { error });
      return undefined;
    }
  }
}

export class Published {
  readonly #publisher: Publisher;
  readonly #entry: CarriedEntry | undefined;

  /** @internal {@link Publisher.publish} makes these. */
  constructor(publisher: Publisher, entry: CarriedEntry | undefined) {
    this.#publisher = publisher;
    this.#entry = entry;
  }

  /** The channel can carry data: there is a session ID, or the connection is plain. */
  ready(channel: Channel): void {
    const entry = this.#entry;
    const secured = securedBy(channel);
    if (entry === undefined || secured === undefined) return;
    entry.flush = () => channel.flushResumption();
    this.#publisher.attempt(() => entry.secure(secured));
  }

  /** The connection has ended. */
  end(): void {
    if (this.#entry !== undefined) this.#publisher.end(this.#entry);
  }
}

function securedBy({ sessionId, cipher }: Channel): Secured | undefined {
  return sessionId && { sessionId, cipher: cipher ?? 0 };
}

/** In `peer_gopt` of `struct tcp_eno_state`. */
const PEER_GOPT = 4;
const AWARE = 0x02;
