/**
 * Destinations whose SYNs pass without a question to the daemon: sets in the policy's nft table (policy-rules.ts), which
 * the kernel looks at where the policy says `private-or-clear` and the socket does not insist. What is told here is
 * gathered, so that a tool runs at most every {@link INTERVAL}; a tool that fails costs speed, as SYNs go to the daemon then.
 */
import { execFile } from 'node:child_process';
import { KNOWN_PLAIN_SETS, POLICY_TABLE } from './policy-rules.js';
import { toolEnvironment, toolError } from './tools.js';

/** Milliseconds between two runs of nft, and after one that failed. Tuned by us. */
const INTERVAL = 100;
const AFTER_FAILURE = 5_000;
/** An element goes so much earlier than it must (ms): the tool takes its time, and none may stay too long. */
const HASTE = 500;
/** What is in the set already is not added again so soon (ms): the SYN came before. */
const FRESH = 1_000;
/** A tool that has not ended after so long will not (ms). */
const TOOL_PATIENCE = 10_000;

interface Member {
  readonly until: number;
  readonly added: number;
}

export class KnownPlain {
  /** What the sets hold as far as we know, by {@link elementOf}; the kernel's own time-outs are ahead of these. */
  readonly #present = new Map<string, Member>();
  /** Not yet told: until when (ms), or 'remove'. */
  readonly #changes = new Map<string, number | 'remove'>();
  #emptyFirst = false;
  #running: Promise<Error | undefined> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lastEnd = 0;
  #failed = false;
  #closed = false;

  /** @param limit of destinations, of either family; beyond it the sets are emptied and begun anew */
  constructor(readonly limit: number) {}

  /** @param until when the daemon wants to see SYNs to there again (ms) */
  add(address: string, port: number, until: number, now: number): void {
    const element = elementOf(address, port);
    const known = this.#present.get(element);
    if (until - HASTE <= now || (known !== undefined && known.until > now && now - known.added < FRESH))
      return;
    this.#makeRoom(now);
    this.#present.set(element, { until, added: now });
    this.#changes.set(element, until);
    this.#schedule(now);
  }

  /** SYNs to there come to the daemon again, in a moment. */
  remove(address: string, port: number, now: number): void {
    if (this.#present.size === 0) return;
    const element = elementOf(address, port);
    if (!this.#present.delete(element)) return;
    this.#changes.set(element, 'remove');
    this.#schedule(now);
  }

  /**
   * All SYNs come to the daemon again when this resolves.
   * @throws ERR_TCPCRYPT_KERNEL_FEATURE, ERR_TCPCRYPT_PERMISSION, with the words of nft; it is tried again then
   */
  async flush(): Promise<void> {
    this.#empty();
    await this.#running; // which may have added something still
    const error = await this.#run();
    if (error !== undefined) throw error;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#changes.clear();
  }

  #makeRoom(now: number): void {
    if (this.#present.size < this.limit) return;
    for (const [element, { until }] of this.#present) if (until <= now) this.#present.delete(element);
    if (this.#present.size >= this.limit) this.#empty();
  }

  #empty(): void {
    this.#present.clear();
    this.#changes.clear();
    this.#emptyFirst = true;
  }

  #schedule(now: number): void {
    if (this.#timer !== undefined || this.#running !== undefined || this.#closed) return;
    const next = this.#lastEnd + (this.#failed ? AFTER_FAILURE : INTERVAL);
    this.#timer = setTimeout(() => void this.#run(), Math.max(0, next - now)).unref();
  }

  /** Tells the kernel what there is to tell. One at a time, so that the order of changes is kept. */
  #run(): Promise<Error | undefined> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#closed) return Promise.resolve(undefined);
    this.#running ??= this.#tell().then((error) => {
      this.#running = undefined;
      this.#lastEnd = Date.now();
      this.#failed = error !== undefined;
      // What of it is in force nobody knows: begun anew. (A removal must not get lost.)
      if (error !== undefined) this.#empty();
      if (this.#emptyFirst || this.#changes.size > 0) this.#schedule(this.#lastEnd);
      return error;
    });
    return this.#running;
  }

  #tell(): Promise<Error | undefined> {
    const script = scriptOf(this.#changes, this.#emptyFirst, Date.now());
    this.#changes.clear();
    this.#emptyFirst = false;
    return script === '' ? Promise.resolve(undefined) : nft(script);
  }
}

/** For `nft -f`. To delete what is not there is an error of the whole; so it is added before. */
function scriptOf(changes: ReadonlyMap<string, number | 'remove'>, emptyFirst: boolean, now: number): string {
  const lines = emptyFirst
    ? KNOWN_PLAIN_SETS.map(({ name }) => `flush set inet ${POLICY_TABLE} ${name}`)
    : [];
  for (const { name, family } of KNOWN_PLAIN_SETS) {
    const ours = [...changes].filter(([element]) => element.includes(':') === (family === 'ipv6'));
    const removed = ours.filter(([, until]) => until === 'remove').map(([element]) => element);
    const added = ours.flatMap(([element, until]) => {
      const rest = until === 'remove' ? 0 : Math.floor(until - HASTE - now);
      return rest > 0 ? [`${element} timeout ${duration(rest)}`] : [];
    });
    const elements = (verb: 'add' | 'delete', list: readonly string[]): void => {
      if (list.length > 0) lines.push(`${verb} element inet ${POLICY_TABLE} ${name} { ${list.join(', ')} }`);
    };
    elements('add', removed);
    elements('delete', removed);
    elements('add', added);
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** As nft writes it. */
const elementOf = (address: string, port: number): string => `${address} . ${port}`;

const duration = (ms: number): string => `${Math.floor(ms / 1000)}s${ms % 1000}ms`;

function nft(script: string): Promise<Error | undefined> {
  return new Promise((resolve) => {
    try {
      const child = execFile(
        'nft',
        ['-f', '-'],
        { env: toolEnvironment(), timeout: TOOL_PATIENCE },
        (error, _, stderr) =>
          resolve(error === null ? undefined : toolError('nft', Object.assign(error, { stderr }))),
      );
      // It may end without having read all.
      child.stdin?.on('error', () => {});
      child.stdin?.end(script);
    } catch (error) {
      resolve(toolError('nft', error)); // e.g. no memory to start it
    }
  });
}
