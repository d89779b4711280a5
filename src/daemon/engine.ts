/**
 * What takes connections and relays them: an NFQUEUE, the listeners, and what they remember. In the daemon's own process,
 * or, with several workers, once in each. Knows nothing of firewall rules: those lead to it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { CarriedConnections } from '../kernel/carried.js';
import type { MapSource } from '../kernel/daemon-maps.js';
import { KeptListeners } from '../kernel/kept-listeners.js';
import { KnownPlain } from '../kernel/known-plain.js';
import { shareOf } from '../kernel/shares.js';
import type { Share } from '../kernel/steering.js';
import { TruePeers } from '../kernel/true-peer.js';
import { Wishes } from '../kernel/wishes.js';
import { type EncryptionOptions, encryption, encryptionOfListener } from '../socket/options.js';
import { Capacity, type Limits } from './capacity.js';
import { ConnectionLog, type Numbers } from './connection-log.js';
import type { ConnectionStatus } from './control/protocol.js';
import { connectionStatus, type WorkReport, workReport } from './control/work-report.js';
import { HostAuthentication, type HostFiles } from './host-authentication.js';
import { Inbound } from './inbound.js';
import { ARRIVAL_TIMEOUT, Outbound } from './outbound.js';
import { MEMORY_LIMIT, type PathEntry, PathMemory } from './path-memory.js';
import type { Policy } from './policy/policy.js';
import type { Workforce } from './workforce.js';

/** A stopping daemon still takes, for so long, who has asked for a connection before (ms). */
const SETTLING = 200;

/** What is asked for on the wire. */
export type Negotiation = Pick<
  EncryptionOptions,
  'teps' | 'ciphers' | 'synTries' | 'handshakeTimeout' | 'resumption'
>;

export interface EngineOptions extends Negotiation {
  readonly logger: Logger;
  /** NFQUEUE number. */
  readonly queue: number;
  readonly maps: MapSource;
  readonly ipv6: boolean;
  readonly policy: Policy;
  readonly limits?: Limits | undefined;
  readonly onFailure: (error: Error) => void;
  /** Of several: which one it is, and the ports that are reserved for it. */
  readonly worker?: {
    readonly index: number;
    readonly count: number;
    readonly share: Share;
    readonly files: HostFiles;
    readonly numbers: Numbers;
  };
}

export class Engine implements Workforce {
  readonly #outbound: Outbound;
  readonly #inbound: Inbound;
  readonly #carried: CarriedConnections;
  readonly #hosts: HostAuthentication;
  readonly #memory: PathMemory;
  readonly #knownPlain: KnownPlain;
  readonly log: ConnectionLog;
  readonly shares: readonly Share[];
  #closed = false;

  private constructor(
    queue: number,
    parts: {
      outbound: Outbound;
      inbound: Inbound;
      carried: CarriedConnections;
      hosts: HostAuthentication;
      memory: PathMemory;
      knownPlain: KnownPlain;
      log: ConnectionLog;
    },
  ) {
    this.#outbound = parts.outbound;
    this.#inbound = parts.inbound;
    this.#carried = parts.carried;
    this.#hosts = parts.hosts;
    this.#memory = parts.memory;
    this.#knownPlain = parts.knownPlain;
    this.log = parts.log;
    this.shares = [
      {
        queue,
        relayPort: this.#outbound.port,
        inboundPort: this.#inbound.port,
        privatePort: this.#inbound.privatePort,
      },
    ];
  }

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PERMISSION, ERR_TCPCRYPT_SYSTEM */
  static async open(options: EngineOptions): Promise<Engine> {
    const { queue, logger, onFailure, maps, ipv6, policy, worker } = options;
    const wanted = { ...options, mode: 'opportunistic' } as const;
    const log = new ConnectionLog(logger, worker?.numbers);
    const remembered = Math.ceil(MEMORY_LIMIT / (worker?.count ?? 1));
    const memory = new PathMemory(remembered);
    const knownPlain = new KnownPlain(remembered);
    const capacity = new Capacity(options.limits);
    const truePeers = new TruePeers(maps);
    const carried = new CarriedConnections(maps);
    if (worker === undefined) carried.removeLeftovers();
    else carried.removeLeftovers((host) => shareOf(host, worker.count) === worker.index);
    carried.watchFlushes();
    const wishes = new Wishes(maps);
    const hosts = new HostAuthentication(
      policy,
      (host, fingerprint) => {
        logger.info({ event: 'first-use', host, fingerprint }, 'a host is new: its key is remembered');
      },
      worker?.files,
    );
    const common = { log, carried, wishes, capacity, hosts, ipv6 };
    const outbound = await Outbound.open({
      ...common,
      encryption: encryption(wanted),
      queue,
      memory,
      knownPlain,
      onFailure,
      ...(worker === undefined ? {} : { relayPort: worker.share.relayPort }),
    });
    try {
      const inbound = await Inbound.open({
        ...common,
        encryption: encryptionOfListener(wanted),
        truePeers,
        kept: new KeptListeners(maps),
        ...(worker === undefined ? {} : { ports: worker.share }),
      });
      return new Engine(queue, { outbound, inbound, carried, hosts, memory, knownPlain, log });
    } catch (error) {
      await outbound.close();
      carried.close();
      throw error;
    }
  }

  async follow(policy: Policy): Promise<void> {
    this.#hosts.follow(policy);
  }

  /** Relayed connections. */
  get connections(): number {
    return this.#outbound.relays.size + this.#inbound.relays.size;
  }

  report(): WorkReport {
    return workReport(this.log, {
      held: this.#outbound.awaited,
      standIns: this.#inbound.standIns,
      destinations: this.#memory.size,
    });
  }

  async reports(): Promise<readonly WorkReport[]> {
    return [this.report()];
  }

  async *connectionList(): AsyncIterable<ConnectionStatus> {
    for (const entry of this.log.connections) yield connectionStatus(entry);
  }

  /** At most `count` of them, with numbers above `after`. */
  connectionsAfter(after: number, count: number): ConnectionStatus[] {
    const found: ConnectionStatus[] = [];
    for (const entry of this.log.connections) {
      if (found.length === count) break;
      if (entry.id > after) found.push(connectionStatus(entry));
    }
    return found;
  }

  async paths(): Promise<readonly PathEntry[]> {
    return this.#memory.list(Date.now());
  }

  async flushPaths(address?: string): Promise<number> {
    const count = this.#memory.flush(address);
    await this.#knownPlain.flush();
    return count;
  }

  suspend(): void {
    this.#inbound.suspend();
  }

  async renew(): Promise<void> {
    this.#inbound.renew();
  }

  resetRelays(): void {
    for (const relay of [...this.#outbound.relays.values(), ...this.#inbound.relays.values()]) relay.abort();
  }

  async stopTaking(): Promise<void> {
    this.#knownPlain.close();
    await this.#outbound.stopTaking();
  }

  async finish(deadline: number): Promise<void> {
    const wait = async (done: () => boolean, until: number): Promise<void> => {
      while (!done() && Date.now() < Math.min(until, deadline)) await sleep(20);
    };
    // Who is on his way to us, by the rules as they were, must find somebody, or he would be refused.
    const settled = Date.now() + SETTLING;
    await wait(() => this.#outbound.awaited === 0 && Date.now() > settled, settled + ARRIVAL_TIMEOUT);
    await this.#closeDoors();
    await wait(() => this.connections === 0, deadline);
    this.resetRelays();
  }

  async close(): Promise<void> {
    await this.#closeDoors();
    this.#carried.close();
  }

  async #closeDoors(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#outbound.close();
    this.#inbound.close();
  }
}
