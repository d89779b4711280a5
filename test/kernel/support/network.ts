/**
 * Two hosts in network namespaces of their own, and processes on them:
 *
 *   client  10.69.0.1, fd69::1  ──veth──  server  10.69.0.2, fd69::2
 *
 * Everything goes away when the test process ends, however it ends.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { Guard } from '#src/kernel/guard.js';
import type { Operations } from './agent.js';

export const CLIENT = '10.69.0.1';
export const SERVER = '10.69.0.2';
export const CLIENT6 = 'fd69::1';
export const SERVER6 = 'fd69::2';

export type Host = 'client' | 'server';

/** The operations of agent.ts, called from afar. */
export type Agent = {
  readonly [K in keyof Operations]: (
    ...args: Parameters<Operations[K]>
  ) => Promise<Awaited<ReturnType<Operations[K]>>>;
} & {
  readonly kill: (signal: NodeJS.Signals) => Promise<void>;
  /** Resolves when the process is gone. */
  readonly ended: Promise<void>;
};

export class Network {
  readonly #name = `tcpcrypt-${randomBytes(4).toString('hex')}`;
  readonly #children = new Set<ChildProcess>();
  readonly #guard: Guard;

  constructor() {
    const namespaces = [this.#namespace('client'), this.#namespace('server')];
    this.#guard = new Guard(namespaces.map((n) => `ip netns del ${n}`).join('\n'));
    for (const namespace of namespaces) execFileSync('ip', ['netns', 'add', namespace]);
    this.sh('client', `ip link add veth0 type veth peer name veth0 netns ${this.#namespace('server')}`);
    for (const host of ['client', 'server'] as const) this.sh(host, configure(host));
  }

  #namespace(host: Host): string {
    return `${this.#name}-${host}`;
  }

  /** Runs a shell script on a host; returns what it prints. */
  sh(host: Host, script: string): string {
    return execFileSync('nsenter', [`--net=/run/netns/${this.#namespace(host)}`, 'sh', '-ec', script], {
      encoding: 'utf8',
    });
  }

  /** A new process on a host. */
  agent(host: Host): Agent {
    const program = fileURLToPath(new URL('./agent.js', import.meta.url));
    const child = spawn('nsenter', [`--net=/run/netns/${this.#namespace(host)}`, process.execPath, program], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#children.add(child);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const waiting = new Map<number, (answer: Answer) => void>();
    child.on('message', (answer: Answer) => {
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    });
    child.once('exit', () => {
      for (const [id, answer] of waiting) answer({ id, error: 'the agent is gone' });
    });
    let lastId = 0;
    return new Proxy({} as Agent, {
      get: (_, operation) => {
        if (operation === 'then') return undefined;
        if (operation === 'ended') return ended;
        if (operation === 'kill')
          return (signal: NodeJS.Signals) => {
            child.kill(signal);
            return ended;
          };
        return (...args: unknown[]) =>
          new Promise((resolve, reject) => {
            if (!child.connected) return reject(new Error('the agent is gone'));
            const id = ++lastId;
            waiting.set(id, ({ error, result }) =>
              error === undefined ? resolve(result) : reject(new Error(error)),
            );
            child.send({ id, operation, args });
          });
      },
    });
  }

  async close(): Promise<void> {
    await Promise.all(
      [...this.#children].map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await ended;
      }),
    );
    await this.#guard.run();
  }
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** Addresses are usable at once and nothing changes later: fixed neighbours, no duplicate address detection. */
function configure(host: Host): string {
  const hosts = {
    client: { v4: CLIENT, v6: CLIENT6, link: '02:00:00:00:00:01' },
    server: { v4: SERVER, v6: SERVER6, link: '02:00:00:00:00:02' },
  };
  const here = hosts[host];
  const there = hosts[host === 'client' ? 'server' : 'client'];
  return `
    echo 0 > /proc/sys/net/ipv6/conf/veth0/accept_dad
    for interface in all lo veth0; do echo 1 > /proc/sys/net/ipv4/conf/$interface/rp_filter; done
    ip link set lo up
    ip link set veth0 address ${here.link} up
    ip addr add ${here.v4}/24 dev veth0
    ip addr add ${here.v6}/64 dev veth0 nodad
    ip neigh add ${there.v4} lladdr ${there.link} dev veth0
    ip neigh add ${there.v6} lladdr ${there.link} dev veth0`;
}
