/**
 * Undo that outlives its process: a shell script that runs when this process ends, however it ends,
 * also by SIGKILL. A small /bin/sh waits on a pipe whose other end only this process holds; end of file
 * on the pipe is the signal. The shell runs in a session of its own, so Ctrl-C in the terminal does not reach it.
 */
import { type ChildProcess, spawn } from 'node:child_process';

export class Guard {
  readonly #shell: ChildProcess;
  readonly #ended: Promise<void>;

  /** From now on `script` (POSIX sh, run as this user, output discarded) runs when this process is gone. */
  constructor(script: string) {
    this.#shell = spawn(
      '/bin/sh',
      ['-c', `trap '' INT TERM HUP; read -r order; [ "$order" = stand-down ] || {\n${script}\n}`],
      {
        detached: true,
        stdio: ['pipe', 'ignore', 'ignore'],
      },
    );
    this.#shell.unref();
    this.#ended = new Promise((resolve) => this.#shell.once('close', () => resolve()));
    // An idle guard does not keep its owner running.
    (this.#shell.stdin as import('node:net').Socket | null)?.unref();
    // A pipe whose reader is gone (the guard was killed) must not take its owner with it.
    this.#shell.stdin?.on('error', () => {});
  }

  /** Resolves when the guard's shell is gone; before {@link run} or {@link standDown} that means somebody killed it. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Runs the script now; resolves when it has ended. */
  async run(): Promise<void> {
    // Whoever waits for the undo must not end before it.
    this.#shell.ref();
    this.#shell.stdin?.end();
    await this.#ended;
  }

  /** Ends the guard without running its script. */
  async standDown(): Promise<void> {
    this.#shell.ref();
    this.#shell.stdin?.end('stand-down\n');
    await this.#ended;
  }
}
