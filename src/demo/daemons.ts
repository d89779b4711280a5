/** `tcpcrypt daemon` on a host of the lab, and the lines it logs: of every connection, unless told otherwise. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TcpcryptError } from '../errors.js';
import type { Host } from '../lab/host.js';

export interface LogLine {
  readonly event?: string;
  /** Of `--workers`: who says it. */
  readonly worker?: number;
  /** Its number: each worker counts upwards. */
  readonly connection?: number;
  readonly direction?: 'outbound' | 'inbound';
  readonly local?: string;
  readonly remote?: string;
  readonly encrypted?: boolean;
  readonly tep?: string;
  readonly tepName?: string;
  readonly cipher?: string;
  readonly cipherName?: string;
  readonly role?: string;
  readonly sessionId?: string;
  readonly resumed?: boolean;
  readonly transcript?: string;
  readonly plainReason?: string;
  readonly how?: string;
  readonly code?: string;
  readonly bytesReceived?: number;
  readonly bytesSent?: number;
  readonly msg?: string;
}

const PATIENCE = 10_000;

export class DaemonProcess {
  readonly lines: LogLine[] = [];
  readonly #process: ChildProcess;
  readonly #host: Host;
  #stderr = '';
  /** The latest connection of each worker that there was a line about; and when the lines were forgotten. */
  readonly #latest = new Map<number | undefined, number>();
  #forgotten: ReadonlyMap<number | undefined, number> = new Map();

  private constructor(host: Host, pins: string, flags: readonly string[]) {
    this.#host = host;
    const main = fileURLToPath(new URL('../cli/main.js', import.meta.url));
    const every = ['--pins', pins, '--log-level', 'debug'];
    this.#process = host.spawn(process.execPath, [main, 'daemon', ...every, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { stdout, stderr } = this.#process;
    if (stdout !== null) {
      createInterface({ input: stdout }).on('line', (line) => {
        try {
          this.#heard(JSON.parse(line) as LogLine);
        } catch {
          this.#stderr += `${line}\n`;
        }
      });
    }
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
  }

  /** Resolves when the daemon works. */
  static async start(host: Host, pins: string, flags: readonly string[] = []): Promise<DaemonProcess> {
    const daemon = new DaemonProcess(host, pins, flags);
    await daemon.line(({ event }) => event === 'ready');
    return daemon;
  }

  #heard(line: LogLine): void {
    const { worker, connection } = line;
    if (connection !== undefined) {
      if (connection <= (this.#forgotten.get(worker) ?? 0)) return;
      this.#latest.set(worker, Math.max(connection, this.#latest.get(worker) ?? 0));
    }
    this.lines.push(line);
  }

  /** All lines up to now, and those that are still to come about connections that they name. */
  forget(): void {
    this.lines.splice(0);
    this.#forgotten = new Map(this.#latest);
  }

  /** The first line, logged or still to be logged, that `wanted` accepts. */
  async line(wanted: (line: LogLine) => boolean): Promise<LogLine> {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const found = this.lines.find(wanted);
      if (found !== undefined) return found;
      if (Date.now() > deadline || !this.running) {
        throw new TcpcryptError('ERR_TCPCRYPT_LAB', {
          detail: `the daemon on ${this.#host.name} did not say what was expected: ${this.#stderr.trim()}`,
        });
      }
      await sleep(10);
    }
  }

  /** What the daemon has in hand, and what it has counted. */
  async status(): Promise<Readonly<Record<string, unknown>>> {
    const from = this.lines.length;
    this.#process.kill('SIGUSR2');
    return { ...(await this.line((line) => line.event === 'status' && this.lines.indexOf(line) >= from)) };
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** @returns the exit code; null when a signal ended it */
  async stop(signal: 'SIGTERM' | 'SIGQUIT' | 'SIGKILL' = 'SIGTERM'): Promise<number | null> {
    if (this.running) {
      this.#process.kill(signal);
      await new Promise((resolve) => this.#process.once('exit', resolve));
    }
    return this.#process.exitCode;
  }
}
