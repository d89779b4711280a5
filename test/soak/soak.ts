/**
 * Thousands of connections through two daemons, while programs on both hosts are killed and the daemons are restarted
 * under them: no byte of a connection that ended in order is lost or altered, nothing stays behind, and where the policy is
 * `private` nothing of what the programs say is ever on the wire in plaintext.
 */
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DaemonProcess } from '#src/demo/daemons.js';
import type { Host } from '#src/lab/host.js';
import { Pair } from '../daemon/support/pair.js';
import { policyFile } from '../daemon/support/policies.js';
import { type ClientRecord, type ConnectionRecord, judge, type Verdict } from './judge.js';
import { PlaintextWatch, type Seen } from './plaintext-watch.js';

export interface SoakOptions {
  /** Short connections. */
  readonly short: number;
  /** Long ones, and for how many seconds. */
  readonly long: number;
  readonly seconds: number;
  /** Times that a daemon, or both, are restarted; programs are killed twice as often, and of each daemon one worker as often. */
  readonly restarts: number;
  readonly seed: number;
  readonly family: 4 | 6;
  /** Of both hosts, outbound and inbound. */
  readonly policy: 'private-or-clear' | 'private';
  /** Of each daemon. Each host then has as many addresses, so that all of them have work. */
  readonly workers: number;
  readonly onProgress?: (done: number) => void;
}

export interface SoakFigures extends Verdict {
  readonly seconds: number;
  readonly connections: number;
  /** Of those that the daemons relayed, encrypted. */
  readonly encrypted: number;
  readonly wire: Seen;
  readonly daemons: readonly DaemonFigures[];
}

export interface DaemonFigures {
  readonly host: string;
  readonly restarts: number;
  readonly workersLost: number;
  /** Before the first connection of this process, and after the last. */
  readonly descriptors: readonly [before: number, after: number];
  /** Resident, MiB. */
  readonly memory: { readonly before: number; readonly most: number; readonly after: number };
  /** What it still has in hand, long after the last connection. */
  readonly left: Readonly<Record<string, number>>;
}

const PROGRAM = resolve('test/soak/program.py');
const FIRST_PORT = 7000;
/** The daemon remembers a destination that answered in plain TCP, as it does while its daemon is down. */
const PORTS = 40;
/** Of each host: 10.69.n.1, …; fd69:n::1, …: those of the lab, and as many more as wanted. */
const MAX_ADDRESSES = 16;
/** Of connections that one client process makes; so many are lost to the figures when it is killed. */
const BATCHES = 80;
const CLIENTS = 4;
const SERVERS = 2;
const SETTLE = 20_000;

export async function soak(options: SoakOptions): Promise<SoakFigures> {
  const began = Date.now();
  const pair = await Pair.open('neither end');
  try {
    const run = await Run.prepare(pair, options);
    const wire = await run.all();
    const verdict = run.verdict();
    return {
      ...verdict,
      violations: [...verdict.violations, ...(options.policy === 'private' ? inTheOpen(wire) : [])],
      seconds: (Date.now() - began) / 1000,
      wire,
      ...(await run.daemons()),
    };
  } finally {
    await pair.close();
  }
}

const inTheOpen = ({ plaintext, examples, lost }: Seen): string[] => [
  ...(plaintext > 0 ? [`plaintext in ${plaintext} segments: ${examples.join('; ')}`] : []),
  ...(lost > 0 ? [`the watch on the wire has missed ${lost} segments`] : []),
];

/** One daemon after the other on a host. */
class Watched {
  restarts = 0;
  workersLost = 0;
  most = 0;
  encrypted = 0;
  #before = { descriptors: 0, memory: 0 };

  private constructor(
    readonly host: Host,
    readonly flags: readonly string[],
    public daemon: DaemonProcess,
  ) {
    this.#note();
  }

  static async start(pair: Pair, host: Host, flags: readonly string[]): Promise<Watched> {
    return new Watched(host, flags, await pair.daemon(host, flags));
  }

  async restart(pair: Pair, signal: 'SIGTERM' | 'SIGQUIT' | 'SIGKILL'): Promise<void> {
    this.#count();
    await this.daemon.stop(signal);
    this.#count();
    this.daemon = await pair.daemon(this.host, this.flags);
    this.restarts++;
    this.#note();
  }

  sample(): void {
    if (this.daemon.running) this.most = Math.max(this.most, memory(this.daemon.pid));
    this.#count();
  }

  async figures(): Promise<DaemonFigures> {
    const deadline = Date.now() + SETTLE;
    let left: Record<string, number>;
    do {
      const { relayed, held, standIns } = await this.daemon.status();
      left = { relayed: Number(relayed), held: Number(held), standIns: Number(standIns) };
      if (Object.values(left).every((count) => count === 0)) break;
      await sleep(500);
    } while (Date.now() < deadline);
    this.sample();
    const { descriptors, memory: before } = this.#before;
    return {
      host: this.host.name,
      restarts: this.restarts,
      workersLost: this.workersLost,
      descriptors: [descriptors, descriptorsOf(this.daemon.pid)],
      memory: { before, most: this.most, after: memory(this.daemon.pid) },
      left,
    };
  }

  #note(): void {
    this.#before = { descriptors: descriptorsOf(this.daemon.pid), memory: memory(this.daemon.pid) };
  }

  /** Logs would be the largest thing in memory. */
  #count(): void {
    for (const { event } of this.daemon.lines.splice(0)) {
      if (event === 'secure') this.encrypted++;
      else if (event === 'worker-ended') this.workersLost++;
    }
  }
}

class Run {
  readonly #pair: Pair;
  readonly #options: SoakOptions;
  readonly #clients = new Map<number, ClientRecord>();
  readonly #servers = new Map<number, ConnectionRecord>();
  readonly #watched: readonly Watched[];
  readonly #addresses: { readonly alice: readonly string[]; readonly bob: readonly string[] };
  readonly #batches = new Set<ChildProcess>();
  readonly #serving: ChildProcess[] = [];
  #begun = 0;
  #over = false;

  private constructor(pair: Pair, options: SoakOptions, watched: readonly Watched[]) {
    this.#pair = pair;
    this.#options = options;
    this.#watched = watched;
    this.#addresses = {
      alice: addressesOf(pair.alice, options),
      bob: addressesOf(pair.bob, options),
    };
  }

  static async prepare(pair: Pair, options: SoakOptions): Promise<Run> {
    const policy = policyFile(pair.lab, `default = "${options.policy}"\n`);
    const flags = ['--policy', policy, '--workers', `${options.workers}`];
    const watched = [];
    for (const host of [pair.alice, pair.bob]) watched.push(await Watched.start(pair, host, flags));
    return new Run(pair, options, watched);
  }

  /** @returns what was on the wire */
  async all(): Promise<Seen> {
    const { short, long, seconds, restarts } = this.#options;
    const { alice, lab } = this.#pair;
    const { stdout: block } = await alice.run('python3', [PROGRAM, 'block']);
    const watch = await PlaintextWatch.start(lab, alice, block);
    while (this.#serving.length < SERVERS) this.#serving.push(this.#serve());
    await this.#pair.bob.waitForListener(FIRST_PORT + PORTS - 1);
    const sampling = setInterval(() => {
      for (const watched of this.#watched) watched.sample();
      this.#options.onProgress?.(this.#clients.size);
    }, 500);
    try {
      const longOnes = long > 0 ? this.#call(short + 1, short + long, seconds) : undefined;
      const disturbing = this.#disturb(short, restarts);
      await Promise.all(Array.from({ length: CLIENTS }, () => this.#work(short)));
      await longOnes;
      this.#over = true;
      await disturbing;
      return await watch.stop();
    } finally {
      this.#over = true;
      clearInterval(sampling);
      for (const server of this.#serving) server.kill('SIGTERM');
    }
  }

  verdict(): Verdict & { connections: number } {
    return { connections: this.#begun, ...judge(this.#clients, this.#servers, this.#begun) };
  }

  async daemons(): Promise<{ encrypted: number; daemons: DaemonFigures[] }> {
    const daemons: DaemonFigures[] = [];
    for (const watched of this.#watched) daemons.push(await watched.figures());
    return { encrypted: this.#watched[0]?.encrypted ?? 0, daemons };
  }

  #serve(): ChildProcess {
    const words = ['server', this.#options.family, FIRST_PORT, PORTS].map(String);
    const server = this.#pair.bob.spawn('python3', [PROGRAM, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    recordsOf<ConnectionRecord>(server, (record) => this.#servers.set(record.id, record));
    return server;
  }

  /** One process with connections `first` to `last`; resolves when it is gone. */
  async #call(first: number, last: number, seconds?: number): Promise<void> {
    const { alice, bob } = this.#addresses;
    const args = [alice.join(), bob.join(), FIRST_PORT, PORTS, first, last, this.#options.seed];
    const client = this.#pair.alice.spawn(
      'python3',
      [PROGRAM, 'client', ...args.map(String), ...(seconds === undefined ? [] : [`${seconds}`])],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.#begun += last - first + 1;
    if (seconds === undefined) this.#batches.add(client);
    await recordsOf<ClientRecord>(client, (record) => this.#clients.set(record.id, record));
    this.#batches.delete(client);
  }

  #nextBatch = 1;
  async #work(short: number): Promise<void> {
    const size = Math.ceil(short / BATCHES);
    while (this.#nextBatch <= short) {
      const first = this.#nextBatch;
      this.#nextBatch += size;
      await this.#call(first, Math.min(first + size - 1, short));
    }
  }

  /** Kills and restarts, evenly over the short connections. */
  async #disturb(short: number, restarts: number): Promise<void> {
    const steps = restarts * 3;
    for (let step = 1; step <= steps; step++) {
      while (!this.#over && this.#clients.size < (short * step) / (steps + 1)) await sleep(50);
      if (step % 3 === 1) {
        const [client] = this.#batches;
        client?.kill('SIGKILL');
      } else if (step % 3 === 2) {
        this.#serving.shift()?.kill('SIGKILL');
        this.#serving.push(this.#serve());
        for (const { daemon } of this.#watched) killWorker(daemon.pid);
      } else await this.#restart(step / 3);
    }
  }

  /** In turn: the client's daemon in order, the server's by force, the server's in order, both by force. */
  async #restart(turn: number): Promise<void> {
    const [onAlice, onBob] = this.#watched;
    // For another one to take over; SIGTERM would lift the policy.
    const inOrder = this.#options.policy === 'private' ? 'SIGQUIT' : 'SIGTERM';
    if (turn % 4 === 1) await onAlice?.restart(this.#pair, inOrder);
    else await onBob?.restart(this.#pair, turn % 4 === 3 ? inOrder : 'SIGKILL');
    if (turn % 4 === 0) await onAlice?.restart(this.#pair, 'SIGKILL');
  }
}

/** As many as there are workers: which of them it is, the last bits of the other host's address decide. */
function addressesOf(host: Host, { family, workers }: SoakOptions): string[] {
  const first = family === 4 ? host.address4 : host.address6;
  const addresses = Array.from({ length: Math.min(workers, MAX_ADDRESSES) }, (_, i) =>
    first.replace(/1$/, (i + 1).toString(family === 4 ? 10 : 16)),
  );
  for (const address of addresses.slice(1)) {
    const [network, ...now] = family === 4 ? ['24'] : ['64', 'nodad'];
    host.enter('ip', ['address', 'add', `${address}/${network}`, 'dev', 'eth0', ...now]);
  }
  return addresses;
}

/** Hands over the lines of JSON that a program prints; resolves when it is gone and all are handed over. */
function recordsOf<T>(program: ChildProcess, take: (record: T) => void): Promise<void> {
  const { stdout } = program;
  if (stdout === null) throw new Error('no pipe');
  createInterface({ input: stdout }).on('line', (line) => {
    take(JSON.parse(line) as T);
  });
  return new Promise((resolve) => program.once('close', () => setImmediate(resolve)));
}

/** One of them, if there are any; another one takes its place. */
function killWorker(daemon: number): void {
  const isWorker = (pid: number): boolean =>
    /\/worker\.js\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  const worker = family(daemon).find(isWorker);
  if (worker !== undefined) process.kill(worker, 'SIGKILL');
}

/** The process and its children, the workers among them. */
function family(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').map(Number))];
}

const sumOver = (pid: number, of: (pid: number) => number): number => {
  let sum = 0;
  try {
    for (const one of family(pid)) sum += of(one);
  } catch {
    // It has just been killed.
  }
  return sum;
};

const descriptorsOf = (pid: number): number => sumOver(pid, (one) => readdirSync(`/proc/${one}/fd`).length);

/** Resident, MiB. */
const memory = (pid: number): number =>
  Math.round(
    sumOver(pid, (one) =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${one}/status`, 'utf8'))?.[1] ?? 0),
    ) / 1024,
  );
