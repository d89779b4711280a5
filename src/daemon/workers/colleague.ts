/** One worker, as the main process sees it: asked and answering, until it ends. */
import { type ChildProcess, fork } from 'node:child_process';
import { ERRORS, type ErrorCode, TcpcryptError } from '../../errors.js';
import type { Question, QuestionName, Questions, Reply } from './messages.js';

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Colleague {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly since = Date.now();
  /** How it ended. */
  readonly ended: Promise<string>;
  #hasEnded = false;
  #lastId = 0;

  /**
   * @param program its module
   * @param files   descriptors that it inherits: the maps, and a channel for others in their places
   */
  constructor(program: string, files: readonly number[]) {
    // systemd is told by the main process how the daemon is.
    const { NOTIFY_SOCKET: _, ...env } = process.env;
    this.#process = fork(program, [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...files],
      serialization: 'advanced',
      env,
    });
    this.#process.on('message', (reply: Reply) => this.#take(reply));
    this.ended = new Promise((resolve) => {
      const end = (how: string): void => {
        this.#hasEnded = true;
        for (const { reject } of this.#waiting.values()) reject(gone(how));
        this.#waiting.clear();
        resolve(how);
      };
      this.#process.once('exit', (code, signal) => end(signal ?? `exit status ${code}`));
      // Without a process there is no exit; otherwise it is a message that did not get through, and its question says so.
      this.#process.on('error', (error) => this.pid === undefined && end(error.message));
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /**
   * @param patience milliseconds
   * @throws what the worker answers; ERR_TCPCRYPT_SYSTEM when it does not, or has ended
   */
  async ask<Name extends QuestionName>(
    name: Name,
    given: Questions[Name]['given'],
    patience: number,
  ): Promise<Questions[Name]['answer']> {
    if (this.#hasEnded) throw gone('before');
    const id = ++this.#lastId;
    let timer: NodeJS.Timeout | undefined;
    try {
      return (await new Promise<unknown>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        timer = setTimeout(() => reject(silent(this.pid)), patience);
        const question: Question<Name> = { id, name, given };
        this.#process.send(question, (error) => error && reject(error));
      })) as Questions[Name]['answer'];
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  #take(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    if (waiting === undefined) return; // too late
    if ('answer' in reply) waiting.resolve(reply.answer);
    else waiting.reject(errorOf(reply.error));
  }
}

function errorOf({ code, message }: { code: string; message: string }): Error {
  const known = code in ERRORS ? (code as ErrorCode) : 'ERR_TCPCRYPT_SYSTEM';
  const prefix = `${ERRORS[known].message} (`;
  const detail = message.startsWith(prefix) ? message.slice(prefix.length, -1) : message;
  return new TcpcryptError(known, { detail });
}

const gone = (how: string): Error =>
  new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `a worker has ended: ${how}` });
const silent = (pid: number | undefined): Error =>
  new TcpcryptError('ERR_TCPCRYPT_SYSTEM', {
    detail: `the worker with process number ${pid} does not answer`,
  });
