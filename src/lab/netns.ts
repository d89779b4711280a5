/**
 * A network namespace with a cgroup of its own, in which programs run: what a host and the router have in common.
 *
 * `ip netns exec` would remount /sys and hide the cgroups, hence `nsenter --net=`. A program is put into the
 * cgroup before it is executed, as a socket keeps for ever the cgroup it was created in.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { TcpcryptError } from '../errors.js';
import { TOOL_PATH, tool } from './tools.js';

export interface HostSpawnOptions {
  /** Run as this user, and the group of the same number, without supplementary groups and capabilities. */
  readonly uid?: number;
  /** Instead of the environment of this process. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** As in node:child_process; default 'pipe': whoever spawns must read, or the program blocks. */
  readonly stdio?: StdioOptions;
}

export interface RunOptions {
  readonly uid?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Standard input; without it, /dev/null. */
  readonly input?: string | Uint8Array;
  /** Default 10 seconds. */
  readonly timeoutMs?: number;
  /** The most bytes of standard output, and of standard error, that are accepted; default 16 MiB. */
  readonly maxOutput?: number;
}

export interface RunResult {
  /** Exit code; 128 + n when signal n ended the program, 127 when there is no such program (as in a shell). */
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

const RUN_TIMEOUT_MS = 10_000;
const MAX_OUTPUT = 16 * 1024 * 1024;
const LISTENER_TIMEOUT_MS = 5_000;
const LISTENER_POLL_MS = 20;

const ENTER = `echo 0 > "$1/cgroup.procs" || exit 126
namespace=$2
shift 2
exec nsenter --net="$namespace" -- "$@"`;

export class NetworkNamespace {
  /** @internal The {@link Lab} makes these. */
  constructor(
    /** What people call it: "alice". */
    readonly name: string,
    /** The name that `ip netns` shows. */
    readonly namespace: string,
    /** The directory of its cgroup v2. */
    readonly cgroup: string,
  ) {}

  /** The file that `nsenter --net=` wants. */
  get namespacePath(): string {
    return `/run/netns/${this.namespace}`;
  }

  /**
   * Starts a program in this namespace and cgroup; `pid` is the program's own. It leads a process group, so
   * that `process.kill(-pid)` reaches its children. Whatever still runs when the lab ends is killed.
   * A program that does not exist ends with code 127 and a line on standard error.
   */
  spawn(command: string, args: readonly string[] = [], options: HostSpawnOptions = {}): ChildProcess {
    const { uid, env = process.env, cwd, stdio = 'pipe' } = options;
    const user =
      uid === undefined ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--'];
    return spawn('/bin/sh', ['-c', ENTER, 'sh', this.cgroup, this.namespacePath, ...user, command, ...args], {
      env: { ...env, PATH: env === process.env ? TOOL_PATH : (env.PATH ?? TOOL_PATH) },
      cwd,
      stdio,
      detached: true,
    });
  }

  /**
   * Runs a program to its end and returns what it said; a non-zero exit code is a result, not an error.
   * @throws ERR_TCPCRYPT_LAB when it takes too long or says too much: the program and its children are killed.
   */
  run(command: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
    const { input, timeoutMs = RUN_TIMEOUT_MS, maxOutput = MAX_OUTPUT, ...spawnOptions } = options;
    return new Promise((resolve, reject) => {
      const child = this.spawn(command, args, {
        ...spawnOptions,
        stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      });
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      const text = () => Buffer.concat(stderr).toString();

      const giveUp = (why: string) => {
        killGroup(child);
        fail(why);
      };
      const fail = (why: string) => {
        clearTimeout(timer);
        const said = text().trim().slice(-500);
        const detail = `${this.name}: ${[command, ...args].join(' ')}: ${why}${said && `: ${said}`}`;
        reject(new TcpcryptError('ERR_TCPCRYPT_LAB', { detail }));
      };
      const timer = setTimeout(() => giveUp(`not finished after ${timeoutMs} ms`), timeoutMs);
      const collect = (stream: NodeJS.ReadableStream | null, into: Buffer[]) => {
        let length = 0;
        stream?.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > maxOutput) giveUp(`more than ${maxOutput} bytes of output`);
          else into.push(chunk);
        });
      };
      collect(child.stdout, stdout);
      collect(child.stderr, stderr);
      // A program may end without having read its input.
      child.stdin?.on('error', () => {});
      child.stdin?.end(input);

      child.on('error', (error) => fail(error.message));
      child.on('close', (code, signal) => {
        clearTimeout(timer);
        resolve({
          code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]),
          stdout: Buffer.concat(stdout),
          stderr: text(),
        });
      });
    });
  }

  /**
   * Resolves when a program in this namespace listens on TCP `port`, on any address, IPv4 or IPv6.
   * @throws ERR_TCPCRYPT_LAB when none does within the time.
   */
  async waitForListener(port: number, timeoutMs: number = LISTENER_TIMEOUT_MS): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!this.#listeningPorts().has(port)) {
      if (performance.now() > deadline)
        throw new TcpcryptError('ERR_TCPCRYPT_LAB', {
          detail: `${this.name}: nobody listens on port ${port} after ${timeoutMs} ms`,
        });
      await sleep(LISTENER_POLL_MS);
    }
  }

  #listeningPorts(): Set<number> {
    const ports = new Set<number>();
    for (const line of this.enter('ss', ['-Hltn']).split('\n')) {
      const local = line.split(/\s+/)[3];
      if (local !== undefined) ports.add(Number(local.slice(local.lastIndexOf(':') + 1)));
    }
    return ports;
  }

  /** Runs one of the system's tools in this namespace, but not in its cgroup: to look and to configure. */
  enter(command: string, args: readonly string[], input = ''): string {
    return tool('nsenter', [`--net=${this.namespacePath}`, '--', command, ...args], input);
  }
}

/** Kills a program that {@link NetworkNamespace.spawn} started, and its children. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Already gone.
  }
}
