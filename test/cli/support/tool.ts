/** `tcpcrypt listen` and `tcpcrypt connect`, as processes. */
import assert from 'node:assert/strict';
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { TCPCRYPT } from '../../socket/kernel-part.js';

/** A tool that was started, and what it has said so far. */
export class Tool {
  static readonly running = new Set<Tool>();
  readonly #out: Buffer[] = [];
  #err = '';
  readonly over: Promise<number | null>;

  constructor(readonly child: ChildProcess) {
    Tool.running.add(this);
    child.stdout?.on('data', (data) => this.#out.push(data));
    child.stderr?.on('data', (data) => {
      this.#err += data;
      child.emit('said');
    });
    child.stdin?.on('error', () => {});
    this.over = once(child, 'close').then(([code, signal]) => {
      Tool.running.delete(this);
      child.emit('said');
      return signal === null ? code : signal;
    });
  }

  get stdout(): Buffer {
    return Buffer.concat(this.#out);
  }
  get stderr(): string {
    return this.#err;
  }
  /** The lines of `--json`. */
  get events(): Record<string, string | number | boolean>[] {
    return this.#err
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }
  /** Waits until stderr matches; the match. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#err);
      if (match !== null) return match;
      if (!Tool.running.has(this)) assert.fail(`ended without ${pattern}: ${this.#err}`);
      await once(this.child, 'said');
    }
  }
  /** The port that `listen` has announced. */
  async port(): Promise<number> {
    return Number((await this.says(/(?:port |"port":)(\d+)/))[1]);
  }
}

export const tool = (args: readonly (string | number)[], options: SpawnOptions = {}) =>
  new Tool(spawn(process.execPath, [TCPCRYPT, ...args.map(String)], { stdio: 'pipe', ...options }));
