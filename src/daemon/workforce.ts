/** Who does the daemon's work: an {@link Engine} in its own process, or a pool of workers, each with an engine. */
import type { Share } from '../kernel/steering.js';
import type { ConnectionLog } from './connection-log.js';
import type { ConnectionStatus } from './control/protocol.js';
import type { WorkReport } from './control/work-report.js';
import type { PathEntry } from './path-memory.js';
import type { Policy } from './policy/policy.js';

export interface Workforce {
  /** Where the rules must lead; as many as there are workers. */
  readonly shares: readonly Share[];
  /** For what the daemon itself has to tell. */
  readonly log: ConnectionLog;
  /** Resolves when everybody works by this policy. @throws ERR_TCPCRYPT_POLICY when its secrets are others */
  follow(policy: Policy): Promise<void>;
  /** One for each worker. Resolves in bounded time: who does not answer is named in the problems. */
  reports(): Promise<readonly WorkReport[]>;
  connectionList(): AsyncIterable<ConnectionStatus>;
  paths(): Promise<readonly PathEntry[]>;
  flushPaths(address?: string): Promise<number>;
  /** The kernel part is gone: connections that come in are left to their servers, or refused, until {@link renew}. */
  suspend(): void;
  /** The maps, at the same descriptors, are those of another kernel part: listens anew. */
  renew(): Promise<void>;
  /** Resets what is relayed. */
  resetRelays(): void;
  /** SYNs pass from now on, those that are held as well; who has been sent to the relay may still arrive. */
  stopTaking(): Promise<void>;
  /** After {@link stopTaking}: waits until what is relayed is over, until `deadline` (ms since 1970), and resets the rest. */
  finish(deadline: number): Promise<void>;
  /** Ends what is left. */
  close(): Promise<void>;
}
