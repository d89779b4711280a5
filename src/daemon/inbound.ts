/**
 * Connections that far hosts open to programs on this host. Only SYNs with the ENO option, to a port on which a
 * program listens that does not speak ENO itself, are steered here (TPROXY).
 *
 *   far host                       daemon                              local server
 *     │ ── SYN + ENO ───────────────▶ │
 *     │ ◀═══ key exchange ═══════════▶│
 *     │                               │ ── SYN, from the client's own address ──▶ │
 *     │ ◀═══ encrypted ══════════════▶│◀═════════════ plain ════════════════════▶ │
 *
 * The server sees the client's real address: the packets carry it (so that nothing that trusts 127.0.0.1 is
 * fooled), and accept() and getpeername() report its port too.
 */
import type { Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import type { CarriedConnections } from '../kernel/carried.js';
import { type EnoOutcome, enoStateBytes, outcomeOf } from '../kernel/eno-socket.js';
import type { KeptListeners } from '../kernel/kept-listeners.js';
import * as libc from '../kernel/libc.js';
import type { TruePeers } from '../kernel/true-peer.js';
import type { Wishes } from '../kernel/wishes.js';
import type { Encryption } from '../socket/options.js';
import { passiveEnoOffer } from '../socket/passive-offer.js';
import { descriptorOf, reset } from '../socket/transport.js';
import { TransientMap } from '../transient-map.js';
import type { Capacity } from './capacity.js';
import type { ConnectionEntry, ConnectionLog } from './connection-log.js';
import { type Endpoint, localEnd, remoteEnd } from './endpoint.js';
import { heedListener } from './heed.js';
import type { HostAuthentication } from './host-authentication.js';
import { Publisher } from './publisher.js';
import { Relay } from './relay.js';
import type { Limit } from './shedding.js';
import { type StandIn, StandIns } from './stand-in.js';
import { TransparentListener } from './transparent.js';

/** Tuned by us: so many stand-in ports are tried for one connection. */
const CONNECT_TRIES = 8;

export interface InboundOptions {
  readonly encryption: Encryption;
  readonly truePeers: TruePeers;
  readonly carried: CarriedConnections;
  readonly wishes: Wishes;
  readonly kept: KeptListeners;
  readonly log: ConnectionLog;
  readonly capacity: Capacity;
  readonly hosts: HostAuthentication;
  readonly ipv6: boolean;
  /** Where to listen; otherwise where it is free. */
  readonly ports?: { readonly inboundPort: number; readonly privatePort: number };
}

/** A connection on its way to the local server. */
interface Incoming {
  readonly entry: ConnectionEntry;
  readonly client: Endpoint;
  readonly server: Endpoint;
  /** What the application may know of the negotiation, see {@link Publisher}. */
  readonly state: Buffer | undefined;
  readonly aware: boolean;
  /** The connection to the server. */
  standIn?: StandIn;
}

export class Inbound {
  readonly #options: InboundOptions;
  readonly #listener: TransparentListener;
  /** For connections that the policy wants `private`: the rules tell them apart. */
  readonly #privateListener: TransparentListener;
  /** By number of the connection. */
  readonly #relays = new TransientMap<number, Relay>();
  /** Those of them whose key exchange goes on, the oldest first. */
  readonly #handshakes = new TransientMap<number, Relay>();
  readonly #standIns: StandIns;
  readonly #publisher: Publisher;
  /** What holds where the policy does not say `private`. */
  readonly #usual: Encryption;
  /** The kernel part answers SYNs for our listeners, as far as they are opened from now on. */
  #attached = true;

  private constructor(
    options: InboundOptions,
    listener: TransparentListener,
    privateListener: TransparentListener,
  ) {
    this.#options = options;
    this.#standIns = new StandIns(options.truePeers);
    this.#publisher = new Publisher(options.carried, options.log);
    this.#usual = { ...options.encryption, auth: options.hosts.offered };
    this.#listener = listener;
    options.capacity.watch(() => this.#relays.size);
    this.#privateListener = privateListener;
    listener.onConnection((far) => this.#accept(far, false));
    privateListener.onConnection((far) => this.#accept(far, true));
  }

  static async open(options: InboundOptions): Promise<Inbound> {
    // The kernel answers a SYN before anybody knows what will be demanded of its sender.
    const aware = options.hosts.offered !== undefined;
    const { ipv6, kept, ports } = options;
    const offer = passiveEnoOffer({ ...options.encryption, aware });
    const transparent = { ipv6, offer, onListening: (fd: number) => kept.keep(fd) };
    const open = (port: number | undefined): Promise<TransparentListener> =>
      TransparentListener.open({ ...transparent, ...(port === undefined ? {} : { port }) });
    const listener = await open(ports?.inboundPort);
    try {
      return new Inbound(options, listener, await open(ports?.privatePort));
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** Where TPROXY must deliver. */
  get port(): number {
    return this.#listener.port;
  }

  /** The same for what is to be refused unless it is encrypted. */
  get privatePort(): number {
    return this.#privateListener.port;
  }

  get relays(): Pick<TransientMap<number, Relay>, 'size' | 'values'> {
    return this.#relays;
  }

  /** Ports that are taken in the name of clients. */
  get standIns(): number {
    return this.#standIns.taken;
  }

  /** Without the kernel part nobody answers with ENO: SYNs go on to the servers, or are refused where `private`. */
  suspend(): void {
    this.#attached = false;
    this.#closeForNow();
  }

  /** There is a kernel part again: the listeners are opened anew, within a moment. */
  renew(): void {
    this.#attached = true;
  }

  /** Stops taking connections; those that are relayed go on. */
  close(): void {
    this.#listener.close();
    this.#privateListener.close();
  }

  #accept(far: TcpSocket, isPrivate: boolean): void {
    const client = remoteEnd(far);
    const server = localEnd(far);
    // Somebody found our port: connecting on would come back here.
    const isOurs = server?.port === this.port || server?.port === this.privatePort;
    if (client === undefined || server === undefined || isOurs) {
      this.#refuse(far);
      return;
    }
    const { log, capacity, wishes } = this.#options;
    if (this.#shed(far)) return;
    const fd = descriptorOf(far);
    let state: Buffer | undefined;
    let outcome: EnoOutcome;
    try {
      state = enoStateBytes(fd);
      outcome = outcomeOf(state);
    } catch {
      // The kernel part was exchanged or taken out in the middle of this handshake.
      this.#refuse(far);
      return;
    }
    const settings = isPrivate ? this.#private(client, server) : this.#usual;
    const encryption = heedListener(settings, wishes.ofListener(server.address, server.port));
    if (encryption.mode === 'required' && outcome.result === 'plain') {
      log.refused('inbound', server, client, outcome.reason);
      far.on('error', () => {});
      reset(far);
      return;
    }
    const entry = log.open('inbound', server, client);
    const about: Incoming = { entry, client, server, state, aware: encryption.auth !== undefined };
    const relay = new Relay({ transport: far, fd, outcome }, encryption, {
      onReady: (ready) => {
        this.#handshakes.delete(entry.id);
        entry.ready(ready.channel);
        this.#connectOn(ready, about, CONNECT_TRIES);
      },
      onEnd: (ended, ending) => {
        this.#handshakes.delete(entry.id);
        this.#relays.delete(entry.id);
        entry.end(ended.channel, ending);
      },
      onLocalClosed: () => about.standIn?.closed(),
    });
    entry.channel = relay.channel;
    if (encryption.mode === 'required') entry.policy = 'private';
    this.#relays.set(entry.id, relay);
    this.#handshakes.set(entry.id, relay);
    // Already now, so that the next SYN finds nobody and goes on to the server, in plaintext.
    if (capacity.exhausted !== undefined) this.#pause(capacity.exhausted);
  }

  #private(client: Endpoint, { port }: Endpoint): Encryption {
    const { encryption, hosts } = this.#options;
    const auth = hosts.of('inbound', { remote: client.address, port, localPort: port });
    return { ...encryption, mode: 'required', auth };
  }

  /**
   * Makes room, or refuses: with too many key exchanges the oldest is given up, which is never one that goes on as it
   * should; with too many connections the listener closes for a while, and the kernel lets SYNs pass to the server.
   */
  #shed(far: TcpSocket): boolean {
    const { capacity, log } = this.#options;
    const limit = capacity.exhausted;
    if (limit !== undefined) {
      log.count('inboundShed');
      far.on('error', () => {});
      reset(far);
      this.#pause(limit);
      return true;
    }
    const oldest = this.#handshakes.first;
    if (oldest !== undefined && this.#handshakes.size >= capacity.maxHandshakes) {
      log.shedding.shed('handshakes');
      oldest.abort(new TcpcryptError('ERR_TCPCRYPT_OVERLOAD'));
    }
    return false;
  }

  #pause(limit: Limit): void {
    this.#options.log.shedding.shed(limit);
    this.#closeForNow();
  }

  #closeForNow(): void {
    const over = (): boolean => this.#attached && this.#options.capacity.relieved;
    for (const listener of [this.#listener, this.#privateListener]) listener.pause(over);
  }

  #refuse(far: TcpSocket): void {
    this.#options.log.count('uninvited');
    far.on('error', () => {});
    reset(far);
  }

  /** Connects to the real server in the client's name. */
  #connectOn(relay: Relay, about: Incoming, tries: number): void {
    const { entry, client, server, state, aware } = about;
    let standIn: StandIn;
    try {
      standIn = this.#standIns.open(client);
    } catch (error) {
      relay.abort(error as Error);
      return;
    }
    about.standIn = standIn;
    const standInEnd = { address: client.address, port: standIn.port };
    const tuple = { local: server, remote: standInEnd };
    // Before it connects: whoever accepts the connection may ask at once.
    const published = this.#publisher.publish({ tuple, opener: 'passive', state, aware }, relay.channel);
    standIn.onClose = () => published.end();
    standIn.connect(server, (result) => {
      if (typeof result !== 'number') {
        entry.standIn = standInEnd;
        relay.join(result);
      } else if (result === -libc.EADDRNOTAVAIL && tries > 1) {
        // An earlier connection from this port to this server is in TIME_WAIT.
        this.#connectOn(relay, about, tries - 1);
      } else {
        this.#options.log.count('inboundRefused');
        relay.abort();
      }
    });
  }
}
