/** What is compared: a way to carry a byte stream between two hosts. One file in peers/ each. */
import type { Host } from '#src/lab/host.js';
import type { Lab } from '#src/lab/lab.js';
import type { Connector, Listener } from './transports.js';

/** The two hosts of a peer, its alone. */
export interface Place {
  readonly lab: Lab;
  readonly client: Host;
  readonly server: Host;
  /** Of the family that is measured: the server's address, the one at which to listen, and that of each host for itself. */
  readonly address: string;
  readonly any: '0.0.0.0' | '::';
  readonly loopback: '127.0.0.1' | '::1';
}

/** What client and server program are told. */
export interface Arrangement {
  readonly connect: Connector;
  readonly listen: Listener;
  /** Why the figures of the last task must not count: what should have been encrypted was not, for instance. */
  readonly complaint?: () => string | undefined;
  /** After a complaint: makes everything as it was. */
  readonly renew?: () => Promise<void>;
  /** Stops what {@link Peer.setUp} started and the lab does not stop by itself. */
  readonly tearDown?: () => Promise<void>;
}

export interface Peer {
  readonly name: string;
  /**
   * 'connections': only what concerns single connections; the bytes flow as those of another peer do. 'authenticated':
   * only the work of that name. 'receiving': only bulk to the client.
   */
  readonly works: 'all' | 'connections' | 'authenticated' | 'receiving';
  /** Of the usual amount of authenticated connections; default 1. For what takes long. */
  readonly share?: number;
  /** It is a measure for authenticated connections. */
  readonly compareAuthenticated?: boolean;
  /** Why it cannot take part on this machine. */
  readonly missing?: () => string | undefined;
  readonly setUp: (place: Place) => Promise<Arrangement>;
}

/** Of the server program; relays listen on others. */
export const SERVER_PORT = 7000;
