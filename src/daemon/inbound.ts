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
import { type EnoOutcome, enoOutcome } from '../kernel/eno-socket.js';
import * as libc from '../kernel/libc.js';
import { MARK } from '../kernel/packet-marks.js';
import { netnsCookie, type TruePeers } from '../kernel/true-peer.js';
import type { Wishes } from '../kernel/wishes.js';
import type { Encryption } from '../socket/options.js';
import { passiveEnoOffer } from '../socket/passive-offer.js';
import { descriptorOf, reset, transportOf } from '../socket/transport.js';
import type { Capacity } from './capacity.js';
import type { ConnectionEntry, ConnectionLog } from './connection-log.js';
import { type Endpoint, endpointText, familyOf } from './endpoint.js';
import { heedListener } from './heed.js';
import type { HostAuthentication } from './host-authentication.js';
import { Publisher } from './publisher.js';
import { Relay } from './relay.js';
import type { Limit } from './shedding.js';
import { StandInPorts } from './stand-in-ports.js';
import { TransparentListener, transparentSocket } from './transparent.js';

/** Tuned by us: so many stand-in ports are tried for one connection. */
const CONNECT_TRIES = 8;

export interface InboundOptions {
  readonly encryption: Encryption;
  readonly truePeers: TruePeers;
  readonly carried: CarriedConnections;
  readonly wishes: Wishes;
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
  readonly publisher: Publisher;
  readonly client: Endpoint;
  readonly server: Endpoint;
}

export class Inbound {
  readonly #options: InboundOptions;
  readonly #listener: TransparentListener;
  /** For connections that the policy wants `private`: the rules tell them apart. */
  readonly #privateListener: TransparentListener;
  readonly #relays = new Set<Relay>();
  /** Those of them whose key exchange goes on, the oldest first. */
  readonly #handshakes = new Set<Relay>();
  readonly #ports = new StandInPorts();
  readonly #netns = netnsCookie();

  private constructor(
    options: InboundOptions,
    listener: TransparentListener,
    privateListener: TransparentListener,
  ) {
    this.#options = options;
    this.#listener = listener;
    options.capacity.watch(() => this.#relays.size);
    this.#privateListener = privateListener;
    listener.onConnection((far) => this.#accept(far, false));
    privateListener.onConnection((far) => this.#accept(far, true));
  }

  static async open(options: InboundOptions): Promise<Inbound> {
    // The kernel answers a SYN before anybody knows what will be demanded of its sender.
    const aware = options.hosts.offered !== undefined;
    const transparent = { ipv6: options.ipv6, offer: passiveEnoOffer({ ...options.encryption, aware }) };
    const { ports } = options;
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

  get relays(): ReadonlySet<Relay> {
    return this.#relays;
  }

  /** Ports that are taken in the name of clients. */
  get standIns(): number {
    return this.#ports.taken;
  }

  /** Stops taking connections; those that are relayed go on. */
  close(): void {
    this.#listener.close();
    this.#privateListener.close();
  }

  #accept(far: TcpSocket, isPrivate: boolean): void {
    const { remoteAddress, remotePort, localAddress, localPort } = far;
    if (
      remoteAddress === undefined ||
      remotePort === undefined ||
      localAddress === undefined ||
      localPort === undefined ||
      // Somebody found our port: connecting on would come back here.
      [this.port, this.privatePort].includes(localPort)
    ) {
      this.#refuse(far);
      return;
    }
    const { log, carried, capacity } = this.#options;
    if (this.#shed(far)) return;
    const client = { address: remoteAddress, port: remotePort };
    const server = { address: localAddress, port: localPort };
    const fd = descriptorOf(far);
    let outcome: EnoOutcome;
    try {
      outcome = enoOutcome(fd);
    } catch {
      // The kernel part was exchanged or taken out in the middle of this handshake.
      this.#refuse(far);
      return;
    }
    const settings = this.#encryption(isPrivate, client, server);
    const encryption = heedListener(settings, this.#options.wishes.ofListener(server.address, server.port));
    if (encryption.mode === 'required' && outcome.result === 'plain') {
      log.refused('inbound', endpointText(server), endpointText(client), outcome.reason);
      far.on('error', () => {});
      reset(far);
      return;
    }
    const publisher = new Publisher(carried, log, fd, encryption.auth !== undefined);
    const entry = log.open('inbound', endpointText(server), endpointText(client));
    const relay = new Relay({ transport: far, fd, outcome }, encryption, {
      onReady: (ready) => {
        this.#handshakes.delete(ready);
        entry.ready(ready.channel);
        this.#connectOn(ready, { entry, publisher, client, server }, CONNECT_TRIES);
      },
      onEnd: (ended, ending) => {
        this.#handshakes.delete(ended);
        this.#relays.delete(ended);
        entry.end(ended.channel, ending);
      },
    });
    entry.channel = relay.channel;
    if (encryption.mode === 'required') entry.policy = 'private';
    this.#relays.add(relay);
    this.#handshakes.add(relay);
    // Already now, so that the next SYN finds nobody and goes on to the server, in plaintext.
    if (capacity.exhausted !== undefined) this.#pause(capacity.exhausted);
  }

  #encryption(isPrivate: boolean, client: Endpoint, { port }: Endpoint): Encryption {
    const { encryption, hosts } = this.#options;
    if (!isPrivate) return { ...encryption, auth: hosts.offered };
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
    const [oldest] = this.#handshakes;
    if (oldest !== undefined && this.#handshakes.size >= capacity.maxHandshakes) {
      log.shedding.shed('handshakes');
      oldest.abort(new TcpcryptError('ERR_TCPCRYPT_OVERLOAD'));
    }
    return false;
  }

  #pause(limit: Limit): void {
    const { capacity, log } = this.#options;
    log.shedding.shed(limit);
    for (const listener of [this.#listener, this.#privateListener]) listener.pause(() => capacity.relieved);
  }

  #refuse(far: TcpSocket): void {
    this.#options.log.count('uninvited');
    far.on('error', () => {});
    reset(far);
  }

  /** Connects to the real server in the client's name. */
  #connectOn(relay: Relay, about: Incoming, tries: number): void {
    const { entry, publisher, client, server } = about;
    let local: TcpSocket;
    try {
      const standIn = this.#standIn(client);
      local = standIn.local;
      // Before it connects: whoever accepts the connection may ask at once.
      const tuple = { local: server, remote: { address: client.address, port: standIn.port } };
      const published = publisher.publish(tuple, 'passive');
      published.ready(relay.channel);
      local.once('close', () => published.end());
    } catch (error) {
      relay.abort(error as Error);
      return;
    }
    const refused = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRNOTAVAIL' && tries > 1) {
        // An earlier connection from this port to this server is in TIME_WAIT.
        this.#connectOn(relay, about, tries - 1);
        return;
      }
      this.#options.log.count('inboundRefused');
      relay.abort();
    };
    local.once('error', refused);
    local.once('connect', () => {
      local.off('error', refused);
      entry.standIn = endpointText({ address: client.address, port: local.localPort ?? 0 });
      relay.join(local);
    });
    local.connect({ host: server.address, port: server.port });
  }

  /** A socket that is bound to a port in the client's name, and that names the client's own port to the server. */
  #standIn(client: Endpoint): { readonly local: TcpSocket; readonly port: number } {
    const { truePeers } = this.#options;
    const fd = transparentSocket(familyOf(client.address));
    let port: number;
    try {
      libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_MARK, MARK.DAEMON_SOCKET | MARK.LOCAL_DELIVERY);
      libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
      port = this.#ports.take(fd, client.address);
    } catch (error) {
      libc.close(fd);
      throw error;
    }
    const local = transportOf(fd);
    local.once('close', () => {
      this.#ports.release(client.address, port);
      truePeers.delete(this.#netns, client.address, port);
    });
    try {
      truePeers.set(this.#netns, client.address, port, client.address, client.port);
    } catch (error) {
      local.destroy();
      throw error;
    }
    return { local, port };
  }
}
