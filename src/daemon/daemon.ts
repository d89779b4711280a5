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
import type { Logger } from 'pino';
import { TcpcryptError } from '../errors.js';
import { openDaemonMaps, openMaps } from '../kernel/daemon-maps.js';
import { kernelPartPresent } from '../kernel/eno-socket.js';
import { Guard } from '../kernel/guard.js';
import { MapCourier } from '../kernel/map-courier.js';
import { checkQueueFree } from '../kernel/nfqueue.js';
import { defaultPins } from '../kernel/pins.js';
import { RulesetWatch } from '../kernel/ruleset-watch.js';
import { hasIPv6, Steering } from '../kernel/steering.js';
import { uninstallScript } from '../kernel/uninstall-script.js';
import { Wishes } from '../kernel/wishes.js';
import { encryption } from '../socket/options.js';
import { type Limits, withDefaults } from './capacity.js';
import type { ConnectionStatus } from './control/protocol.js';
import { together, type WorkReport } from './control/work-report.js';
import { Engine, type Negotiation } from './engine.js';
import { HostAuthentication, rememberingFiles } from './host-authentication.js';
import { KernelPart } from './kernel-part.js';
import type { PathEntry } from './path-memory.js';
import { cgroupState, kernelRules } from './policy/kernel-rules.js';
import { BUILT_IN, type Policy } from './policy/policy.js';
import { WorkerPool } from './workers/pool.js';
import type { Workforce } from './workforce.js';

/** NFQUEUE number: RFC 8547. */
export const DEFAULT_QUEUE = 8547;
/**
 * Milliseconds; tuned by us. The kernel knows cgroups by number: a service that is restarted has another one. And the kernel
 * part may be taken away.
 */
const LOOK_INTERVAL = 500;
/** When rules that others have deleted cannot be made anew, the next attempt (ms). */
const REPAIR_INTERVAL = 1000;

export interface DaemonOptions extends Negotiation {
  readonly logger: Logger;
  /** NFQUEUE number; of several workers, that of the first. */
  readonly queue?: number;
  /** Asked at the start and at every {@link Daemon.reload}; what it throws, they throw. The built-in one by default. */
  readonly policy?: () => Policy;
  /** Directory of the pinned maps, where `tcpcrypt up` was told one. */
  readonly pins?: string;
  /** Module that fetches the maps of another kernel part, see src/kernel/map-courier.ts. */
  readonly courier: string;
  readonly limits?: Limits;
  /** Absent: the daemon does all the work in its own process. */
  readonly workers?: WorkerOptions;
  /** Something that the daemon cannot live without broke; it should stop. */
  readonly onFailure: (error: Error) => void;
}

export interface WorkerOptions {
  /** A power of two, at most MAX_SHARES. */
  readonly count: number;
  /** Module that calls `work` (workers/worker.ts). */
  readonly program: string;
  readonly logLevel: string;
  /** Gives up root, when what needs it is done: workers are children of what the daemon is then. */
  readonly leaveRoot: (policy: Policy) => void;
}

export class Daemon {
  readonly #workforce: Workforce;
  #steering: Steering;
  readonly #steer: (policy: Policy) => Steering;
  readonly #watch: RulesetWatch;
  readonly #guard: Guard;
  readonly #wishes: Wishes;
  readonly #kernelPart: KernelPart;
  readonly #source: () => Policy;
  readonly #looks: NodeJS.Timeout;
  /** SYNs that passed by the sets of known-plain.ts: in former tables, and in the one at hand when last asked. */
  #passed = { before: 0, last: 0 };
  #policy: Policy;
  /** Of the cgroups that the rules in force name. */
  #cgroupState: string;
  readonly since = new Date();
  #stopping = false;
  #problem: string | undefined;
  #repair: NodeJS.Timeout | undefined;
  /** One policy after the other. */
  #enforcing: Promise<unknown> = Promise.resolve();

  private constructor(parts: {
    workforce: Workforce;
    steering: Steering;
    steer: (policy: Policy) => Steering;
    guard: Guard;
    wishes: Wishes;
    kernelPart: KernelPart;
    source: () => Policy;
    policy: Policy;
    cgroups: string;
  }) {
    this.#workforce = parts.workforce;
    this.#steering = parts.steering;
    this.#steer = parts.steer;
    this.#guard = parts.guard;
    this.#wishes = parts.wishes;
    this.#kernelPart = parts.kernelPart;
    this.#source = parts.source;
    this.#policy = parts.policy;
    this.#cgroupState = parts.cgroups;
    this.#looks = setInterval(() => {
      this.#kernelPart.look();
      this.#followCgroups();
    }, LOOK_INTERVAL).unref();
    this.#watch = new RulesetWatch(() => this.#keepRules());
  }

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PERMISSION, ERR_TCPCRYPT_SYSTEM, and what `policy` throws */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { queue = DEFAULT_QUEUE, pins = defaultPins(), policy: source = () => BUILT_IN, workers } = options;
    const policy = source();
    if (!kernelPartPresent()) throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT');
    const { teps, ciphers } = encryption({ ...options, mode: 'opportunistic' });
    const ipv6 = hasIPv6();
    const maps = openDaemonMaps(pins);
    const wishes = new Wishes(openMaps(maps));
    wishes.setDefaults(teps, ciphers);
    const courier = new MapCourier(options.courier, pins);
    const guard = new Guard(uninstallScript({ butWhatRefuses: true }));
    let workforce: Workforce | undefined;
    let steered = false;
    try {
      const about = { ...options, queue, policy, ipv6 };
      workforce =
        workers === undefined
          ? await Engine.open({ ...about, maps: openMaps(maps) })
          : await startPool({ ...about, workers, maps });
      const [first, ...others] = workforce.shares;
      if (first === undefined) throw new RangeError('nobody to steer to');
      const kernelPart = new KernelPart(workforce, courier, maps);
      const cgroups = cgroupState(policy);
      const steer = (wanted: Policy): Steering =>
        Steering.install({ ...first, others, policy: kernelRules(wanted), ipv6 });
      steered = true;
      const steering = steer(policy);
      return new Daemon({ workforce, steering, steer, guard, wishes, kernelPart, source, policy, cgroups });
    } catch (error) {
      await (steered ? guard.run() : guard.standDown());
      wishes.clearDefaults();
      await workforce?.close();
      courier.close();
      throw error;
    }
  }

  /** What there is now, and what there was: for a line in the log. */
  async status(): Promise<Readonly<Record<string, number>>> {
    const all = together(await this.reports());
    const { connections, held, standIns, destinations } = all;
    const { events } = this.counts(all);
    return { relayed: connections.outbound + connections.inbound, held, standIns, destinations, ...events };
  }

  /** Of who does the work, and of the daemon itself. */
  reports(): Promise<readonly WorkReport[]> {
    return this.#workforce.reports();
  }

  connectionList(): AsyncIterable<ConnectionStatus> {
    return this.#workforce.connectionList();
  }

  paths(): Promise<readonly PathEntry[]> {
    return this.#workforce.paths();
  }

  /**
   * Forgets what was learnt about paths, or what concerns one address: the next connections to there ask again.
   * @returns how many entries that were
   * @throws ERR_TCPCRYPT_KERNEL_FEATURE, with the words of nft: the kernel may let SYNs pass for a while still
   */
  forgetPaths(address?: string): Promise<number> {
    return this.#workforce.flushPaths(address);
  }

  /** It takes no connections any more. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** The policy in force. */
  get policy(): Policy {
    return this.#policy;
  }

  /**
   * What became of connections, and SYNs that the rules have refused by themselves, among them retransmissions; without
   * `refused`, the rules cannot be asked now. Runs a tool: a few milliseconds.
   * @param all reports together
   */
  counts({ counters }: WorkReport): {
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
    const passed = this.#passed.before + this.#passed.last;
    const outboundKnownPlain = (counters.outboundKnownPlain ?? 0) + passed;
    return {
      events: outboundKnownPlain === 0 ? counters : { ...counters, outboundKnownPlain },
      ...(refused === undefined ? {} : { refused }),
    };
  }

  /**
   * Reads the policy anew and puts it in force, at one stroke. Connections that exist stay as they are.
   * @throws ERR_TCPCRYPT_POLICY, ERR_TCPCRYPT_ARGUMENT, ERR_TCPCRYPT_KERNEL_FEATURE; then the former one is in force.
   */
  async reload(): Promise<Policy> {
    await this.#enforce(() => this.#source());
    return this.#policy;
  }

  #enforce(source: () => Policy): Promise<void> {
    const done = this.#enforcing.then(() => this.#enforceNow(source()));
    this.#enforcing = done.catch(() => {});
    return done;
  }

  async #enforceNow(policy: Policy): Promise<void> {
    const cgroups = cgroupState(policy);
    const former = this.#policy;
    await this.#workforce.follow(policy);
    try {
      this.#steering.setPolicy(kernelRules(policy));
    } catch (error) {
      await this.#workforce.follow(former);
      throw error;
    }
    this.#policy = policy;
    this.#cgroupState = cgroups;
  }

  #followCgroups(): void {
    if (cgroupState(this.#policy) === this.#cgroupState) return;
    this.#enforce(() => this.#policy).catch((error) => {
      // A cgroup went while we looked: once more after the interval.
      this.#workforce.log.debug('rules for cgroups not renewed', { error });
    });
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
      if (missing === 'tables') this.#workforce.resetRelays();
      this.#workforce.log.rulesLost(missing);
      this.#steering = this.#steer(this.#policy);
      this.#problem = undefined;
    } catch (error) {
      this.#problem = `the firewall rules are lost, nothing is encrypted: ${(error as Error).message}`;
      this.#repair = setTimeout(() => this.#keepRules(), REPAIR_INTERVAL);
    }
  }

  #stopSteering(): void {
    try {
      this.#steering.stopSteering();
    } catch (error) {
      // E.g. no descriptors left to run a tool: who comes now is refused.
      this.#workforce.log.debug('steering goes on to the end', { error });
    }
  }

  /** Why nothing is encrypted, though the daemon runs. */
  get problems(): readonly string[] {
    return [this.#kernelPart.problem, this.#problem].filter((problem) => problem !== undefined);
  }

  /**
   * Stops taking connections, waits up to `patience` milliseconds for those that are relayed, resets the rest.
   * @param because 'asked': the policy is lifted; 'failure': what it refuses stays refused
   */
  async stop(patience: number, because: 'asked' | 'failure' = 'asked'): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#looks);
    this.#kernelPart.close();
    clearTimeout(this.#repair);
    this.#watch.close();
    const deadline = Date.now() + patience;
    await this.#workforce.stopTaking();
    this.#stopSteering();
    await this.#workforce.finish(deadline);
    try {
      if (because === 'asked') this.#steering.uninstall();
      else Steering.removeLeftovers({ butWhatRefuses: true });
    } catch {
      // E.g. no descriptors left to run a tool: the guard has its own.
      await this.#guard.run();
    }
    await this.#guard.standDown();
    this.#wishes.clearDefaults();
    await this.#workforce.close();
  }
}

interface PoolStart extends DaemonOptions {
  readonly queue: number;
  readonly ipv6: boolean;
  readonly workers: WorkerOptions;
  readonly maps: readonly number[];
}

/** What needs root first, then the workers. */
async function startPool(
  options: Omit<PoolStart, 'policy'> & { readonly policy: Policy },
): Promise<Workforce> {
  const { logger, queue, ipv6, policy, limits, workers, maps } = options;
  const { files, contents } = rememberingFiles();
  const hosts = new HostAuthentication(policy, () => {}, files);
  for (let worker = 0; worker < workers.count; worker++) checkQueueFree(queue + worker);
  workers.leaveRoot(policy);
  const { teps, ciphers, synTries, handshakeTimeout, resumption } = options;
  return WorkerPool.start({
    logger,
    logLevel: workers.logLevel,
    program: workers.program,
    count: workers.count,
    queue,
    ipv6,
    policy,
    limits: withDefaults(limits),
    // What is undefined counts as not said.
    negotiation: JSON.parse(
      JSON.stringify({ teps, ciphers, synTries, handshakeTimeout, resumption }),
    ) as Negotiation,
    maps,
    files: contents,
    hosts,
  });
}
