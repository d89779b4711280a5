/** A peer with its hosts and programs running, ready to be given tasks. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Host } from '#src/lab/host.js';
import type { Lab } from '#src/lab/lab.js';
import { cpuSeconds, residentKiB } from './accounting.js';
import { type Arrangement, type Peer, type Place, SERVER_PORT } from './peer.js';
import { steadyFlags } from './steady.js';
import type { Result, Task } from './work.js';

const program = (name: string): string => fileURLToPath(new URL(`${name}.js`, import.meta.url));
/** Milliseconds for one task. */
const PATIENCE = 120_000;

export interface Measurement extends Result {
  /** CPU seconds of the whole host. */
  readonly clientCpu: number;
  readonly serverCpu: number;
  /** KiB that the task left behind. */
  readonly clientMemory: number;
  readonly serverMemory: number;
  /** Signatures that the server made. */
  readonly signatures: number;
}

export class Contestant {
  readonly peer: Peer;
  readonly #place: Place;
  readonly #arrangement: Arrangement;
  readonly #server: ChildProcess;
  readonly #client: ChildProcess;
  readonly #results: AsyncIterator<string>;
  readonly #signed: AsyncIterator<string>;
  #stopped: Promise<void> | undefined;

  private constructor(peer: Peer, place: Place, arrangement: Arrangement, heap: number) {
    this.peer = peer;
    this.#place = place;
    this.#arrangement = arrangement;
    const node = (host: Host, name: string, argument: object, ...more: string[]) =>
      host.spawn(
        process.execPath,
        ['--expose-gc', ...steadyFlags(), program(name), JSON.stringify(argument), ...more],
        {
          stdio: ['pipe', 'pipe', 'inherit'],
        },
      );
    this.#server = node(place.server, 'server', arrangement.listen, place.any, `${heap}`);
    this.#client = node(place.client, 'client', arrangement.connect, `${heap}`);
    // Whoever is stopped in the middle does not read any more: the end of its output says so.
    for (const { stdin } of [this.#server, this.#client]) stdin?.on('error', () => {});
    this.#results = linesOf(this.#client);
    this.#signed = linesOf(this.#server);
  }

  /**
   * Its programs hold `heap` MB. Ports of ended connections are used again, as on every host that opens so many: otherwise
   * some thousand of them later connect(2) would do nothing but look for a port, first where two connections are made for
   * each.
   */
  static async start(
    lab: Lab,
    peer: Peer,
    number: number,
    { family, heap }: { family: 4 | 6; heap: number },
  ): Promise<Contestant> {
    const [client, server] = [lab.host(`c${number}`), lab.host(`s${number}`)];
    const place: Place =
      family === 4
        ? { lab, client, server, address: server.address4, any: '0.0.0.0', loopback: '127.0.0.1' }
        : { lab, client, server, address: server.address6, any: '::', loopback: '::1' };
    for (const host of [place.client, place.server])
      await host.run('sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse']);
    const contestant = new Contestant(peer, place, await peer.setUp(place), heap);
    await place.server.waitForListener(SERVER_PORT);
    return contestant;
  }

  async perform(task: Task): Promise<Measurement> {
    const { client, server } = this.#place;
    const memory = task.work === 'idle';
    const read = () => ({
      clientCpu: cpuSeconds(client),
      serverCpu: cpuSeconds(server),
      clientMemory: memory ? residentKiB(client) : 0,
      serverMemory: memory ? residentKiB(server) : 0,
    });
    if (memory) await this.#collectGarbage();
    const signaturesBefore = await this.#signatures(task);
    const before = read();
    this.#client.stdin?.write(`${JSON.stringify(task)}\n`);
    const deadline = AbortSignal.timeout(PATIENCE);
    const line = await Promise.race([
      this.#results.next(),
      new Promise<never>((_, reject) => {
        deadline.onabort = () =>
          reject(new Error(`${this.peer.name}: ${task.work}: nothing in ${PATIENCE} ms`));
      }),
    ]);
    if (line.done) throw new Error(`${this.peer.name}: the client program ended`);
    const result = JSON.parse(line.value) as Result;
    if (result.error !== undefined) throw new Error(`${this.peer.name}: ${task.work}: ${result.error}`);
    if (memory) await this.#collectGarbage();
    const after = read();
    const signatures = (await this.#signatures(task)) - signaturesBefore;
    return {
      ...result,
      clientCpu: after.clientCpu - before.clientCpu,
      serverCpu: after.serverCpu - before.serverCpu,
      clientMemory: after.clientMemory - before.clientMemory,
      serverMemory: after.serverMemory - before.serverMemory,
      signatures,
    };
  }

  async #signatures({ work }: Task): Promise<number> {
    if (work !== 'connections') return 0;
    this.#server.stdin?.write('\n');
    const { value, done } = await this.#signed.next();
    if (done) throw new Error(`${this.peer.name}: the server program ended`);
    return (JSON.parse(value) as { signatures: number }).signatures;
  }

  /** Why the last task's figures must not count, if so; the next ones may. */
  async complaint(): Promise<string | undefined> {
    const complaint = this.#arrangement.complaint?.();
    if (complaint !== undefined) await this.#arrangement.renew?.();
    return complaint;
  }

  /** Idempotent: it may be asked for while it goes on. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#client.kill('SIGKILL');
    this.#server.kill('SIGKILL');
    await this.#arrangement.tearDown?.();
  }

  async #collectGarbage(): Promise<void> {
    this.#server.kill('SIGUSR2');
    await sleep(300);
  }
}

function linesOf({ stdout }: ChildProcess): AsyncIterator<string> {
  if (stdout === null) throw new Error('no pipe');
  return createInterface({ input: stdout })[Symbol.asyncIterator]();
}
