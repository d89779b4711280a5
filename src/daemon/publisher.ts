/** Tells the kernel what an application may know of its connection; what goes wrong with that harms no connection. */
import type { CarriedConnections, CarriedEntry, Tuple } from '../kernel/carried.js';
import { enoStateBytes } from '../kernel/eno-socket.js';
import type { Channel } from '../socket/channel.js';
import type { ConnectionLog } from './connection-log.js';

export interface Published {
  /** The channel can carry data: there is a session ID, or the connection is plain. */
  ready(channel: Channel): void;
  /** The connection has ended. */
  end(): void;
}

export class Publisher {
  readonly #carried: CarriedConnections;
  readonly #log: ConnectionLog;
  readonly #state: Uint8Array | undefined;

  /**
   * @param far   descriptor of the connection to the far host
   * @param aware the a bits are the daemons' own, and not for the application, which may speak another protocol
   */
  constructor(carried: CarriedConnections, log: ConnectionLog, far: number, aware: boolean) {
    this.#carried = carried;
    this.#log = log;
    this.#state = this.#attempt(() => (aware ? withoutAwareBit(enoStateBytes(far)) : enoStateBytes(far)));
  }

  publish(tuple: Tuple, opener: 'active' | 'passive'): Published {
    const state = this.#state;
    const entry: CarriedEntry | undefined =
      state && this.#attempt(() => this.#carried.publish(tuple, opener, state));
    return {
      ready: (channel) => {
        const { sessionId, cipher } = channel;
        if (entry === undefined || sessionId === undefined) return;
        entry.flush = () => channel.flushResumption();
        this.#attempt(() => entry.secure(sessionId, cipher ?? 0));
      },
      // The application's socket takes over what is published when it is closed or reset, which comes first.
      end: () => setImmediate(() => this.#attempt(() => entry?.close())),
    };
  }

  #attempt<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.count('unpublished');
      this.#log.debug('the session ID is not published', { error });
      return undefined;
    }
  }
}

/** In `peer_gopt` of `struct tcp_eno_state`. */
function withoutAwareBit(state: Buffer | undefined): Buffer | undefined {
  state?.writeUInt8(state.readUInt8(PEER_GOPT) & ~AWARE, PEER_GOPT);
  return state;
}
const PEER_GOPT = 4;
const AWARE = 0x02;
