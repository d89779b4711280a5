/**
 * What the daemon tells of its connections: counters; the list of those that are there now; and lines. At level "info"
 * those that somebody may have to look at: a connection stays plain, is refused, or fails. At "debug" all: one when a
 * connection becomes ready, one when it ends.
 */
import type { Logger } from 'pino';
import type { ErrorCode } from '../errors.js';
import type { PolicyAction } from '../kernel/policy-rules.js';
import type { Channel } from '../socket/channel.js';
import { type ConnectionDescription, describe } from '../socket/describe.js';
import { TransientMap } from '../transient-map.js';
import { type Endpoint, endpointText } from './endpoint.js';
import { ReasonCounter } from './reason-counter.js';
import type { Ending } from './relay.js';
import { Shedding } from './shedding.js';

export type Direction = 'outbound' | 'inbound';

/** Everything that is counted and not logged line by line, because a peer can make as much of it as it likes. */
export type Counter =
  | 'outboundEncrypted'
  | 'outboundPlain'
  /** Released at once: the destination is known to be plain. */
  | 'outboundKnownPlain'
  /** Released at once, or refused: the application wishes it so. */
  | 'outboundUnwanted'
  /** Released at once: too many SYNs are held already. */
  | 'outboundShed'
  /** Released at once: nobody can stand in for it (far-socket.ts). */
  | 'outboundNotRelayable'
  | 'outboundUnreachable'
  /** Released, or refused: this host has no local port left for a second connection to there. */
  | 'outboundNoLocalPort'
  /** The policy is `private`, or the application wishes no plain connection: the far host, or a box on the path, does not encrypt. */
  | 'outboundRefused'
  /** The application was gone before the far side answered, or before it was told. */
  | 'outboundAbandoned'
  /** Carried, but the application cannot ask for its session ID: the kernel part has gone, or is out of memory. */
  | 'unpublished'
  /** Somebody else connected to the relay port. */
  | 'uninvited'
  | 'inboundEncrypted'
  | 'inboundPlain'
  /** Reset: a limit is reached. Those that come after it are plain, past the daemon. */
  | 'inboundShed'
  /** The local server refused the connection. */
  | 'inboundRefused'
  /** The same of a server: the client sent ENO, but what came of it is plain. */
  | 'inboundPrivateRefused'
  /** How often others have deleted firewall rules of ours. */
  | 'rulesLost'
  /** How often the kernel part was taken away, or exchanged for another one, under the daemon. */
  | 'kernelPartLost'
  /** How often a worker has ended, and with it what it relayed. */
  | 'workersLost'
  /** Connections that ended with an error code of ours. */
  | 'failed';

/** Bytes of application data, over all connections that there ever were. */
export interface Traffic {
  readonly received: number;
  readonly sent: number;
}

export interface Numbers {
  readonly after: number;
  readonly step: number;
}

export class ConnectionLog {
  readonly #logger: Logger;
  readonly #counters = new Map<Counter, number>();
  readonly #open = new TransientMap<number, ConnectionEntry>();
  readonly #past: Record<Direction, { received: number; sent: number }> = {
    outbound: { received: 0, sent: 0 },
    inbound: { received: 0, sent: 0 },
  };
  readonly #step: number;
  #lastId: number;

  /** Why connections stayed plain TCP, by error code. */
  readonly fallbacks = new ReasonCounter();
  /** Why connections failed, or far hosts were not reached: by error code, ours or the system's. */
  readonly failures = new ReasonCounter();
  readonly shedding: Shedding;

  /** @param numbers of connections: the first one is `after` + `step`; of several logs, each has its own */
  constructor(logger: Logger, { after, step }: Numbers = { after: 0, step: 1 }) {
    this.#logger = logger;
    this.#step = step;
    this.#lastId = after;
    this.shedding = new Shedding(logger);
  }

  get counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counters);
  }

  /** Connections that are there now, the oldest first. */
  get connections(): Iterable<ConnectionEntry> {
    return this.#open.values();
  }

  traffic(direction: Direction): Traffic {
    const sum = { ...this.#past[direction] };
    for (const entry of this.#open.values()) {
      if (entry.direction !== direction) continue;
      sum.received += entry.channel?.dataReceived ?? 0;
      sum.sent += entry.channel?.dataSent ?? 0;
    }
    return sum;
  }

  count(counter: Counter): void {
    this.#counters.set(counter, (this.#counters.get(counter) ?? 0) + 1);
  }

  /** Somebody has deleted our rules; they are made anew. */
  rulesLost(what: 'tables' | 'queue'): void {
    this.count('rulesLost');
    const message =
      what === 'tables'
        ? 'somebody has deleted our firewall tables: what was relayed is reset, the tables are made anew'
        : 'somebody has deleted our queue rule: it is made anew';
    this.#logger.warn({ event: 'rules-lost', what }, message);
  }

  /** Somebody has run "tcpcrypt down", and perhaps "tcpcrypt up" after it. */
  kernelPartLost(what: 'gone' | 'another'): void {
    this.count('kernelPartLost');
    const message =
      what === 'gone'
        ? 'the kernel part is gone: nothing new is encrypted, and what is private is refused, until "tcpcrypt up"'
        : 'the kernel part is another one: it is being taken over';
    this.#logger.warn({ event: 'kernel-part-lost', what }, message);
  }

  kernelPartBack(): void {
    this.#logger.warn(
      { event: 'kernel-part-back' },
      'the new kernel part is in use: connections are encrypted',
    );
  }

  kernelPartUnusable(error: string): void {
    this.#logger.error(
      { event: 'kernel-part-unusable', error },
      'the new kernel part cannot be taken over, nothing that comes in is encrypted: restart the daemon',
    );
  }

  debug(message: string, facts: object): void {
    this.#logger.debug(facts, message);
  }

  /** @param local,remote as the application, or the local server, sees them */
  open(direction: Direction, local: Endpoint, remote: Endpoint): ConnectionEntry {
    this.#lastId += this.#step;
    const entry = new ConnectionEntry(this, this.#logger, this.#lastId, direction, local, remote);
    this.#open.set(this.#lastId, entry);
    return entry;
  }

  /** The policy, or a wish of the application, is against it: the connection would be plain. */
  refused(direction: Direction, local: Endpoint, remote: Endpoint, plainReason: ErrorCode): void {
    this.count(direction === 'outbound' ? 'outboundRefused' : 'inboundPrivateRefused');
    const ends = { local: endpointText(local), remote: endpointText(remote) };
    this.#logger.info(
      { event: 'refused', direction, ...ends, plainReason },
      `${direction} connection is refused`,
    );
  }

  /** @internal {@link ConnectionEntry.end} calls it. */
  forget({ id, direction, channel }: ConnectionEntry): void {
    this.#open.delete(id);
    const past = this.#past[direction];
    past.received += channel?.dataReceived ?? 0;
    past.sent += channel?.dataSent ?? 0;
  }
}

export interface ConnectionFacts {
  readonly connection: number;
  readonly direction: Direction;
  /** "address:port" */
  readonly local: string;
  readonly remote: string;
}

export class ConnectionEntry {
  readonly since = Date.now();
  channel: Channel | undefined;
  /** The far side can carry data. */
  isReady = false;
  /** The action of the policy. */
  policy: PolicyAction = 'private-or-clear';
  /** Inbound: the peer that the local server's socket has in the kernel's own lists. */
  standIn: Endpoint | undefined;

  constructor(
    readonly log: ConnectionLog,
    readonly logger: Logger,
    /** The number of the connection. */
    readonly id: number,
    readonly direction: Direction,
    readonly local: Endpoint,
    readonly remote: Endpoint,
  ) {}

  get facts(): ConnectionFacts {
    const { id: connection, direction, local, remote } = this;
    return { connection, direction, local: endpointText(local), remote: endpointText(remote) };
  }

  ready(channel: Channel): void {
    const { direction } = this;
    const event = channel.encrypted ? 'secure' : 'plain';
    this.channel = channel;
    this.isReady = true;
    this.log.count(`${direction}${channel.encrypted ? 'Encrypted' : 'Plain'}`);
    if (!channel.encrypted) this.log.fallbacks.count(channel.plainReason);
    this.#tell(channel.encrypted ? 'debug' : 'info', `${direction} connection is ${event}`, () => ({
      event,
    }));
  }

  end(channel: Channel, ending: Ending): void {
    const { direction } = this;
    this.channel = channel;
    this.log.forget(this);
    if (ending.how === 'error') {
      this.log.count('failed');
      this.log.failures.count((ending.error as NodeJS.ErrnoException).code);
    }
    this.#tell(ending.how === 'error' ? 'info' : 'debug', `${direction} connection ended`, () => ({
      event: 'end',
      bytesReceived: channel.dataReceived,
      bytesSent: channel.dataSent,
      ...endingFacts(ending),
    }));
  }

  /** Nothing is put into words that nobody reads. */
  #tell(level: 'info' | 'debug', message: string, news: () => { readonly event: string }): void {
    if (!this.logger.isLevelEnabled(level)) return;
    const { event, ...more } = news();
    this.logger[level]({ event, ...this.facts, ...this.description(), ...more }, message);
  }

  /** What was negotiated, as far as that is known. */
  description(): ConnectionDescription | undefined {
    return this.channel && describe(this.channel, this.channel.sessionId);
  }
}

function endingFacts(ending: Ending): object {
  switch (ending.how) {
    case 'end':
      return { how: 'end' };
    case 'reset':
      return { how: 'reset', by: ending.by };
    case 'error': {
      const { code, message } = ending.error as NodeJS.ErrnoException;
      return { how: 'error', code: code ?? 'unknown', message };
    }
  }
}
