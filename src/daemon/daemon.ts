/**
 * The transparent daemon: encrypts the connections of unmodified programs on this host.
 *
 *   Daemon.start   listeners first, then the guard, then the steering rules: at no moment does a rule
 *                  point at nothing
 *   daemon.stop    the queue and the listeners first: without them the rules let everything pass, so new
 *                  connections are plain TCP at once; then what is relayed may finish; the rules last, as what
 *                  is relayed needs them, and would go out in plaintext without
 *   death          the guard removes the rules; a held SYN is retransmitted by its sender and passes. What the
 *                  policy refuses stays refused
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { TcpcryptError } from '../errors.js';
import { CarriedConnections } from '../kernel/carried.js';
import { kernelPartPresent } from '../kernel/eno-socket.js';
import { Guard } from '../kernel/guard.js';
import { KnownPlain } from '../kernel/known-plain.js';
import { defaultPins } from '../kernel/pins.js';
import { RulesetWatch } from '../kernel/ruleset-watch.js';
import { hasIPv6, Steering, uninstallScript } from '../kernel/steering.js';
import { TruePeers } from '../kernel/true-peer.js';
import { Wishes } from '../kernel/wishes.js';
import { type EncryptionOptions, encryption } from '../socket/options.js';
import { Capacity, type Limits } from './capacity.js';
import { ConnectionLog } from './connection-log.js';
import { HostAuthentication } from './host-authentication.js';
import { Inbound } from './inbound.js';
import { ARRIVAL_TIMEOUT, Outbound } from './outbound.js';
import { MEMORY_LIMIT, PathMemory } from './path-memory.js';
import { cgroupState, kernelRules } from './policy/kernel-rules.js';
import { BUILT_IN, type Policy } from './policy/policy.js';

/** NFQUEUE number: RFC 8547. */
export const DEFAULT_QUEUE = 8547;
/** Milliseconds; tuned by us. The kernel knows cgroups by number: a service that is restarted has another one. */
const CGROUP_INTERVAL = 500;
/** A stopping daemon still takes, for so long, who has asked for a connection before (ms). */
const SETTLING = 200;
/** When rules that others have deleted cannot be made anew, the next attempt (ms). */
const REPAIR_INTERVAL = 1000;

export interface DaemonOptions
  extends Pick<EncryptionOptions, 'teps' | 'ciphers' | 'synTries' | 'handshakeTimeout' | 'resumption'> {
  readonly logger: Logger;
  /** NFQUEUE number. */
  readonly queue?: number;
  /** Asked at the start and at every {@link Daemon.reload}; what it throws, they throw. The built-in one by default. */
  readonly policy?: () => Policy;
  /** Directory of the pinned maps, where `tcpcrypt up` was told one. */
  readonly pins?: string;
  readonly limits?: Limits;
  /** Something that the daemon cannot live without broke; it should stop. */
  readonly onFailure: (error: Error) => void;
}

export class Daemon {
  readonly #outbound: Outbound;
  readonly #inbound: Inbound;
  #steering: Steering;
  readonly #steer: (policy: Policy) => Steering;
  readonly #watch: RulesetWatch;
  readonly #guard: Guard;
  readonly #carried: CarriedConnections;
  readonly #wishes: Wishes;
  readonly #source: () => Policy;
  readonly #hosts: HostAuthentication;
  readonly #cgroups: NodeJS.Timeout;
  readonly #knownPlain: KnownPlain;
  /** SYNs that passed by it: in former tables, and in the one at hand when last asked. */
  #passed = { before: 0, last: 0 };
  #policy: Policy;
  /** Of the cgroups that the rules in force name. */
  #cgroupState: string;
  readonly log: ConnectionLog;
  readonly memory: PathMemory;
  readonly since = new Date();
  #stopping = false;
  #problem: string | undefined;
  #repair: NodeJS.Timeout | undefined;

  private constructor(parts: {
    outbound: Outbound;
    inbound: Inbound;
    steering: Steering;
    steer: (policy: Policy) => Steering;
    guard: Guard;
    carried: CarriedConnections;
    wishes: Wishes;
    log: ConnectionLog;
    memory: PathMemory;
    knownPlain: KnownPlain;
    source: () => Policy;
    hosts: HostAuthentication;
    policy: Policy;
    cgroups: string;
  }) {
    this.#outbound = parts.outbound;
    this.#inbound = parts.inbound;
    this.#steering = parts.steering;
    this.#steer = parts.steer;
    this.#guard = parts.guard;
    this.#carried = parts.carried;
    this.#wishes = parts.wishes;
    this.log = parts.log;
    this.memory = parts.memory;
    this.#knownPlain = parts.knownPlain;
    this.#source = parts.source;
    this.#hosts = parts.hosts;
    this.#policy = parts.policy;
    this.#cgroupState = parts.cgroups;
    this.#cgroups = setInterval(() => this.#followCgroups(), CGROUP_INTERVAL).unref();
    this.#watch = new RulesetWatch(() => this.#keepRules());
  }

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PERMISSION, ERR_TCPCRYPT_SYSTEM, and what `policy` throws */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { queue = DEFAULT_QUEUE, logger, onFailure, pins, policy: source = () => BUILT_IN } = options;
    const policy = source();
    if (!kernelPartPresent()) throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT');
    const wanted = encryption({ ...options, mode: 'opportunistic' });
    const log = new ConnectionLog(logger);
    const memory = new PathMemory();
    const knownPlain = new KnownPlain(MEMORY_LIMIT);
    const capacity = new Capacity(options.limits);
    const truePeers = new TruePeers(pins ?? defaultPins());
    const carried = new CarriedConnections(pins ?? defaultPins());
    carried.removeLeftovers();
    carried.watchFlushes();
    const wishes = new Wishes(pins ?? defaultPins());
    wishes.setDefaults(wanted.teps, wanted.ciphers);
    const ipv6 = hasIPv6();
    const hosts = new HostAuthentication(policy, (host, fingerprint) => {
      logger.info({ event: 'first-use', host, fingerprint }, 'a host is new: its key is remembered');
    });
    const outbound = await Outbound.open({
      queue,
      encryption: wanted,
      memory,
      knownPlain,
      log,
      carried,
      wishes,
      capacity,
      hosts,
      onFailure,
      ipv6,
    });
    let inbound: Inbound | undefined;
    let guard: Guard | undefined;
    try {
      inbound = await Inbound.open({
        encryption: wanted,
        truePeers,
        carried,
        wishes,
        log,
        capacity,
        hosts,
        ipv6,
      });
      guard = new Guard(uninstallScript({ butWhatRefuses: true }));
      const cgroups = cgroupState(policy);
      const ports = {
        relayPort: outbound.port,
        inboundPort: inbound.port,
        privatePort: inbound.privatePort,
      };
      const steer = (wanted: Policy): Steering =>
        Steering.install({ ...ports, queue, policy: kernelRules(wanted), ipv6 });
      const steering = steer(policy);
      return new Daemon({
        outbound,
        inbound,
        steering,
        steer,
        guard,
        carried,
        wishes,
        log,
        memory,
        knownPlain,
        source,
        hosts,
        policy,
        cgroups,
      });
    } catch (error) {
      await guard?.run();
      inbound?.close();
      await outbound.close();
      carried.close();
      wishes.clearDefaults();
      throw error;
    }
  }

  /** What there is now, and what there was: for a line in the log. */
  get status(): Readonly<Record<string, number>> {
    return {
      relayed: this.connections,
      held: this.held,
      standIns: this.#inbound.standIns,
      destinations: this.memory.size,
      ...this.counts.events,
    };
  }

  /** It takes no connections any more. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** Outbound connections whose SYN is held, or released and not yet arrived. */
  get held(): number {
    return this.#outbound.awaited;
  }

  /** The policy in force. */
  get policy(): Policy {
    return this.#policy;
  }

  /**
   * What became of connections, and SYNs that the rules have refused by themselves, among them retransmissions; without
   * `refused`, the rules cannot be asked now. Runs a tool: a few milliseconds.
   */
  get counts(): {
    readonly events: Readonly<Record<string, number>>;
    readonly refused?: Readonly<Record<string, number>>;
  } {
    let refused: Readonly<Record<string, number>> | undefined;
    try {
      const counts = this.#steering.counts;
      refused = counts.refused;
      // Rules that are made anew begin to count anew.
      if (counts.knownPlain < this.#passed.last) this.#passed.before += this.#passed.last;
      this.#passed.last = counts.knownPlain;
    } catch {
      // The rules are gone, or no tool can be run.
    }
    const { counters } = this.log;
    const passed = this.#passed.before + this.#passed.last;
    const outboundKnownPlain = (counters.outboundKnownPlain ?? 0) + passed;
    return {
      events: outboundKnownPlain === 0 ? counters : { ...counters, outboundKnownPlain },
      ...(refused === undefined ? {} : { refused }),
    };
  }

  /**
   * Forgets what was learnt about paths, or what concerns one address: the next connections to there ask again.
   * @returns how many entries that were
   * @throws ERR_TCPCRYPT_KERNEL_FEATURE, with the words of nft: the kernel may let SYNs pass for a while still
   */
  async forgetPaths(address?: string): Promise<number> {
    const count = this.memory.flush(address);
    await this.#knownPlain.flush();
    return count;
  }

  /**
   * Reads the policy anew and puts it in force, at one stroke. Connections that exist stay as they are.
   * @throws ERR_TCPCRYPT_POLICY, ERR_TCPCRYPT_ARGUMENT, ERR_TCPCRYPT_KERNEL_FEATURE; then the former one is in force.
   */
  reload(): Policy {
    this.#enforce(this.#source());
    return this.#policy;
  }

  #enforce(policy: Policy): void {
    const cgroups = cgroupState(policy);
    const former = this.#policy;
    this.#hosts.follow(policy);
    try {
      this.#steering.setPolicy(kernelRules(policy));
    } catch (error) {
      this.#hosts.follow(former);
      throw error;
    }
    this.#policy = policy;
    this.#cgroupState = cgroups;
  }

  #followCgroups(): void {
    if (cgroupState(this.#policy) === this.#cgroupState) return;
    try {
      this.#enforce(this.#policy);
    } catch (error) {
      // A cgroup went while we looked: once more after the interval.
      this.log.debug('rules for cgroups not renewed', { error });
    }
  }

  /**
   * Somebody has deleted rules. If they were ours, what is relayed is reset at once, as the program's next bytes would
   * leave the machine by themselves and in plaintext; then the rules are made anew.
   */
  #keepRules(): void {
    clearTimeout(this.#repair);
    if (this.#stopping) return;
    try {
      const { missing } = this.#steering;
      if (missing === undefined) {
        this.#problem = undefined;
        return;
      }
      if (missing === 'tables') this.#resetRelays();
      this.log.rulesLost(missing);
      this.#steering = this.#steer(this.#policy);
      this.#problem = undefined;
    } catch (error) {
      this.#problem = `the firewall rules are lost, nothing is encrypted: ${(error as Error).message}`;
      this.#repair = setTimeout(() => this.#keepRules(), REPAIR_INTERVAL);
    }
  }

  #resetRelays(): void {
    for (const relay of [...this.#outbound.relays, ...this.#inbound.relays]) relay.abort();
  }

  #stopSteering(): void {
    try {
      this.#steering.stopSteering();
    } catch (error) {
      // E.g. no descriptors left to run a tool: who comes now is refused.
      this.log.debug('steering goes on to the end', { error });
    }
  }

  /** Why nothing is encrypted, though the daemon runs. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Relayed connections. */
  get connections(): number {
    return this.#outbound.relays.size + this.#inbound.relays.size;
  }

  /**
   * Stops taking connections, waits up to `patience` milliseconds for those that are relayed, resets the rest.
   * @param because 'asked': the policy is lifted; 'failure': what it refuses stays refused
   */
  async stop(patience: number, because: 'asked' | 'failure' = 'asked'): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#cgroups);
    this.#knownPlain.close();
    clearTimeout(this.#repair);
    this.#watch.close();
    const deadline = Date.now() + patience;
    const wait = async (done: () => boolean, until: number): Promise<void> => {
      while (!done() && Date.now() < Math.min(until, deadline)) await sleep(20);
    };
    await this.#outbound.stopTaking();
    this.#stopSteering();
    // Who is on his way to us, by the rules as they were, must find somebody, or he would be refused.
    const settled = Date.now() + SETTLING;
    await wait(() => this.held === 0 && Date.now() > settled, settled + ARRIVAL_TIMEOUT);
    await this.#outbound.close();
    this.#inbound.close();
    await wait(() => this.connections === 0, deadline);
    this.#resetRelays();
    try {
      if (because === 'asked') this.#steering.uninstall();
      else Steering.removeLeftovers({ butWhatRefuses: true });
    } catch {
      // E.g. no descriptors left to run a tool: the guard has its own.
      await this.#guard.run();
    }
    await this.#guard.standDown();
    this.#carried.close();
    this.#wishes.clearDefaults();
  }
}
