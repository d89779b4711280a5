/**
 * Several workers that share nothing: each has its own NFQUEUE, its own ports, its own memory of hosts. The rules lead the
 * connections with one host always to the same one (src/kernel/shares.ts).
 *
 *     main process ── root for set-up: lock, control socket, guards, descriptors of the maps, keys of host authentication
 *          │          then the daemon's user: rules, policy, questions of "tcpcrypt status"
 *          ├── worker 0    queue q,   ports that the main process has reserved
 *          └── worker 1    queue q+1, …
 *
 * A worker that ends takes along what it relayed: that is reset. Until there is another one, its share of the new
 * connections stays plain, or is refused, as when a whole daemon ends; the rules need not change.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { TcpcryptError } from '../../errors.js';
import { descriptorChannel, emptyChannel, sendDescriptors } from '../../kernel/descriptor-passing.js';
import { close } from '../../kernel/libc.js';
import type { Share } from '../../kernel/steering.js';
import type { Limits } from '../capacity.js';
import { ConnectionLog } from '../connection-log.js';
import type { ConnectionStatus } from '../control/protocol.js';
import { epitaph, NO_REPORT, together, type WorkReport, workReport } from '../control/work-report.js';
import type { Negotiation } from '../engine.js';
import type { HostAuthentication, HostFileContents } from '../host-authentication.js';
import type { PathEntry } from '../path-memory.js';
import type { Policy } from '../policy/policy.js';
import { type Reservation, reservePort } from '../transparent.js';
import type { Workforce } from '../workforce.js';
import { Colleague } from './colleague.js';
import { type Assignment, PAGE, type QuestionName, type Questions } from './messages.js';

/** How long a worker may take to start, and to answer a question (ms). */
const START_PATIENCE = 30_000;
const PATIENCE = 3_000;
/** Beyond the deadline for what is relayed: to notice that it is over, and to settle before (ms). */
const FINISH_PATIENCE = 5_000;
/** Until a worker that has ended is replaced (ms): doubles while that does not last {@link LASTING}. */
const FIRST_DELAY = 100;
const LAST_DELAY = 30_000;
const LASTING = 60_000;
/** Connections of a worker's successor are numbered from the next multiple of it on. */
const NUMBERS = 1_000_000_000;

export interface PoolOptions {
  readonly logger: Logger;
  readonly logLevel: string;
  /** Module of a worker, which calls `work`. */
  readonly program: string;
  readonly count: number;
  /** NFQUEUE number of the first. */
  readonly queue: number;
  readonly ipv6: boolean;
  readonly policy: Policy;
  readonly limits: Required<Limits>;
  readonly negotiation: Negotiation;
  /** Descriptors; they belong to the pool. */
  readonly maps: readonly number[];
  readonly files: HostFileContents;
  readonly hosts: HostAuthentication;
}

interface Place {
  readonly index: number;
  readonly share: Share;
  readonly reservations: readonly Reservation[];
  worker: Colleague | undefined;
  generation: number;
  delay: number;
  /** The latest, of the present worker; and what its predecessors have left. */
  report: WorkReport | undefined;
  past: WorkReport | undefined;
}

export class WorkerPool implements Workforce {
  readonly log: ConnectionLog;
  readonly #options: PoolOptions;
  readonly #places: readonly Place[];
  /** By which workers get other maps: our end, and the one that they all inherit. */
  readonly #channel = descriptorChannel();
  #policy: Policy;
  #stopping = false;

  private constructor(options: PoolOptions) {
    this.#options = options;
    this.#policy = options.policy;
    this.log = new ConnectionLog(options.logger);
    this.#places = Array.from({ length: options.count }, (_, index) => place(index, options));
  }

  /**
   * Starts all workers; they take connections as soon as the rules are there.
   * @throws what a worker throws, and ERR_TCPCRYPT_SYSTEM when one cannot be started
   */
  static async start(options: PoolOptions): Promise<WorkerPool> {
    const pool = new WorkerPool(options);
    const started = await Promise.allSettled(pool.#places.map((place) => pool.#engage(place)));
    const failed = started.find((result) => result.status === 'rejected');
    if (failed === undefined) return pool;
    await pool.close();
    throw failed.reason;
  }

  get shares(): readonly Share[] {
    return this.#places.map(({ share }) => share);
  }

  async follow(policy: Policy): Promise<void> {
    this.#options.hosts.follow(policy);
    this.#policy = policy;
    await Promise.all(
      this.#places.map(async (place) => {
        try {
          await this.#ask(place, 'follow', policy);
        } catch {
          // It must not go on by the former policy. The next one starts with this one.
          place.worker?.kill();
        }
      }),
    );
  }

  async reports(): Promise<readonly WorkReport[]> {
    const own = workReport(this.log);
    const ofPlaces = await Promise.all(this.#places.map((place) => this.#reportOf(place)));
    return [own, ...ofPlaces.flat()];
  }

  async *connectionList(): AsyncIterable<ConnectionStatus> {
    for (const place of this.#places) {
      for (let after = 0; ; ) {
        const page = await this.#ask(place, 'connections', after).catch(() => []);
        yield* page;
        if (page.length < PAGE) break;
        after = page.at(-1)?.connection ?? Number.POSITIVE_INFINITY;
      }
    }
  }

  async paths(): Promise<readonly PathEntry[]> {
    const lists = await Promise.all(
      this.#places.map((place) => this.#ask(place, 'paths', null).catch(() => [])),
    );
    return lists.flat();
  }

  /** @throws ERR_TCPCRYPT_SYSTEM when a worker does not answer */
  async flushPaths(address?: string): Promise<number> {
    const counts = await Promise.all(
      this.#places.map((place) =>
        this.#ask(place, 'flush', address ?? null).catch((error) => {
          // With a worker goes what it remembered.
          if (place.worker?.hasEnded) return 0;
          throw error;
        }),
      ),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  suspend(): void {
    for (const place of this.#places) this.#ask(place, 'suspend', null).catch(() => place.worker?.kill());
  }

  /** Who does not follow ends: its successor has the maps from the beginning. */
  async renew(): Promise<void> {
    const [ours, theirs] = this.#channel;
    for (const place of this.#places) {
      sendDescriptors(ours, this.#options.maps, 'maps');
      await this.#ask(place, 'renew', null).catch(() => place.worker?.kill());
      emptyChannel(theirs);
    }
  }

  resetRelays(): void {
    // Bytes of its applications might leave in plaintext.
    for (const place of this.#places) this.#ask(place, 'reset', null).catch(() => place.worker?.kill());
  }

  async stopTaking(): Promise<void> {
    this.#stopping = true;
    await Promise.all(
      this.#places.map((place) => this.#ask(place, 'stop-taking', null).catch(() => place.worker?.kill())),
    );
  }

  async finish(deadline: number): Promise<void> {
    const patience = Math.max(0, deadline - Date.now()) + FINISH_PATIENCE;
    await Promise.all(
      this.#places.map(async (place) => {
        try {
          place.report = epitaph(await this.#ask(place, 'finish', deadline, patience));
        } catch {
          place.worker?.kill();
        }
        await place.worker?.ended;
      }),
    );
  }

  async close(): Promise<void> {
    this.#stopping = true;
    for (const { worker, reservations } of this.#places) {
      worker?.kill();
      await worker?.ended;
      for (const fd of reservations.flatMap(({ places }) => places)) close(fd);
    }
    for (const fd of [...this.#options.maps, ...this.#channel]) close(fd);
  }

  async #ask<Name extends QuestionName>(
    { worker }: Place,
    name: Name,
    given: Questions[Name]['given'],
    patience = PATIENCE,
  ): Promise<Questions[Name]['answer']> {
    if (worker === undefined) throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: 'no worker' });
    return worker.ask(name, given, patience);
  }

  /** Its own, and that of its predecessors. */
  async #reportOf(place: Place): Promise<readonly WorkReport[]> {
    const { index, worker, past } = place;
    const before = past === undefined ? [] : [past];
    try {
      const report = { ...(await this.#ask(place, 'report', null)), worker: index };
      if (place.worker === worker) place.report = report;
      return [report, ...before];
    } catch {
      const problem = `worker ${index} ${
        worker === undefined || worker.hasEnded
          ? 'has ended and is being replaced: its share of new connections is not encrypted'
          : `(process ${worker.pid}) does not answer: what is said of it is old`
      }`;
      const last = place.report ?? past;
      if (this.#stopping) return last === undefined ? before : [last, ...(last === past ? [] : before)];
      return [{ ...(place.report ?? NO_REPORT), problems: [problem] }, ...before];
    }
  }

  /** Resolves when it works. */
  async #engage(place: Place): Promise<void> {
    const { program, maps } = this.#options;
    const worker = new Colleague(program, [...maps, this.#channel[1]]);
    place.worker = worker;
    void worker.ended.then((how) => this.#ended(place, worker, how));
    await worker.ask('start', this.#assignment(place), START_PATIENCE);
    place.generation++;
  }

  #assignment({ index, share, generation }: Place): Assignment {
    const { count, maps, ipv6, limits, logLevel, negotiation, files } = this.#options;
    const part = (limit: number): number => Math.ceil(limit / count);
    return {
      index,
      count,
      share,
      maps: maps.length,
      ipv6,
      policy: this.#policy,
      limits: {
        maxConnections: part(limits.maxConnections),
        maxHeld: part(limits.maxHeld),
        maxHandshakes: part(limits.maxHandshakes),
      },
      numbers: { after: generation * NUMBERS + index + 1 - count, step: count },
      logLevel,
      negotiation,
      files,
    };
  }

  #ended(place: Place, worker: Colleague, how: string): void {
    if (place.worker !== worker) return;
    if (place.report !== undefined) {
      const { report, past } = place;
      place.past = past === undefined ? epitaph(report) : together([past, epitaph(report)]);
      place.report = undefined;
    }
    // A worker that does not even start is for the daemon's start to report.
    if (this.#stopping || place.generation === 0) return;
    const lasted = Date.now() - worker.since > LASTING;
    place.delay = lasted ? FIRST_DELAY : Math.min(LAST_DELAY, place.delay * 2);
    const facts = { event: 'worker-ended', worker: place.index, pid: worker.pid, how, delay: place.delay };
    this.log.count('workersLost');
    this.#options.logger.error(
      facts,
      'a worker has ended, what it relayed is reset: another one takes its place',
    );
    void this.#replace(place);
  }

  async #replace(place: Place): Promise<void> {
    await sleep(place.delay, undefined, { ref: false });
    if (this.#stopping) return;
    const { logger } = this.#options;
    try {
      await this.#engage(place);
      logger.info(
        { event: 'worker-replaced', worker: place.index, pid: place.worker?.pid },
        'worker replaced',
      );
    } catch (error) {
      if (this.#stopping) return;
      logger.error(
        { event: 'worker-failed', worker: place.index, error: String(error) },
        'a worker does not start',
      );
      // Its end, if it is not there yet, leads to the next attempt.
      place.worker?.kill();
    }
  }
}

function place(index: number, { ipv6, queue }: PoolOptions): Place {
  const reservations = [reservePort(ipv6), reservePort(ipv6), reservePort(ipv6)] as const;
  const [relayPort, inboundPort, privatePort] = reservations.map(({ port }) => port) as [
    number,
    number,
    number,
  ];
  return {
    index,
    share: { queue: queue + index, relayPort, inboundPort, privatePort },
    reservations,
    worker: undefined,
    generation: 0,
    delay: FIRST_DELAY / 2,
    report: undefined,
    past: undefined,
  };
}
