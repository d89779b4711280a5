/** What the daemon tells of its connections: a line when one becomes ready, a line when it ends, and counters. */
import type { Logger } from 'pino';
import type { Channel } from '../socket/channel.js';
import { describe } from '../socket/describe.js';
import type { Ending } from './relay.js';

export type Direction = 'outbound' | 'inbound';

/** Everything that is counted and not logged line by line, because a peer can make as much of it as it likes. */
export type Counter =
  | 'outboundEncrypted'
  | 'outboundPlain'
  /** Released at once: the destination is known to be plain. */
  | 'outboundKnownPlain'
  /** Released at once: too many SYNs are held already. */
  | 'outboundShed'
  | 'outboundUnreachable'
  /** The far side answered, but the application was gone. */
  | 'outboundAbandoned'
  /** Somebody else connected to the relay port. */
  | 'uninvited'
  | 'inboundEncrypted'
  | 'inboundPlain'
  /** The local server refused the connection. */
  | 'inboundRefused'
  /** Connections that ended with an error code of ours. */
  | 'failed';

export class ConnectionLog {
  readonly #logger: Logger;
  readonly #counters = new Map<Counter, number>();
  #lastId = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counters);
  }

  count(counter: Counter): void {
    this.#counters.set(counter, (this.#counters.get(counter) ?? 0) + 1);
  }

  debug(message: string, facts: object): void {
    this.#logger.debug(facts, message);
  }

  /** @param local,remote "address:port" as the application, or the local server, sees them */
  open(direction: Direction, local: string, remote: string): ConnectionEntry {
    this.#lastId++;
    return new ConnectionEntry(this, this.#logger, { connection: this.#lastId, direction, local, remote });
  }
}

export class ConnectionEntry {
  constructor(
    readonly log: ConnectionLog,
    readonly logger: Logger,
    readonly facts: { connection: number; direction: Direction; local: string; remote: string },
  ) {}

  ready(channel: Channel): void {
    const { direction } = this.facts;
    const event = channel.encrypted ? 'secure' : 'plain';
    this.log.count(`${direction}${channel.encrypted ? 'Encrypted' : 'Plain'}`);
    this.logger.info(
      { event, ...this.facts, ...describe(channel, channel.sessionId) },
      `${direction} connection is ${event}`,
    );
  }

  end(channel: Channel, ending: Ending): void {
    const { direction } = this.facts;
    const bytes = { bytesReceived: channel.dataReceived, bytesSent: channel.dataSent };
    if (ending.how === 'error') this.log.count('failed');
    this.logger.info(
      {
        event: 'end',
        ...this.facts,
        ...describe(channel, channel.sessionId),
        ...bytes,
        ...endingFacts(ending),
      },
      `${direction} connection ended`,
    );
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
