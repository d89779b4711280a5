/**
 * Which program has which connection, as far as this user may see it: the kernel's list of sockets, through `ss`.
 * Who asks finds out, not the daemon: it needs no right to look into other programs.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface Program {
  readonly name: string;
  readonly pid: number;
}

const MAX_OUTPUT = 256 * 1024 * 1024;
const PATIENCE = 20_000;

/** By "local remote", both as "address:port"; empty without `ss`. */
export async function programsOfSockets(): Promise<ReadonlyMap<string, Program>> {
  const found = new Map<string, Program>();
  let list: string;
  try {
    ({ stdout: list } = await promisify(execFile)('ss', ['-Htnp'], {
      maxBuffer: MAX_OUTPUT,
      timeout: PATIENCE,
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH || '/usr/bin:/bin'}:/usr/sbin:/sbin` },
    }));
  } catch {
    return found;
  }
  for (const line of list.split('\n')) {
    const [, , , local, remote] = line.split(/\s+/);
    const [, name, pid] = /users:\(\("([^"]*)",pid=(\d+)/.exec(line) ?? [];
    if (local === undefined || remote === undefined || name === undefined) continue;
    found.set(socketKey(local, remote), { name, pid: Number(pid) });
  }
  return found;
}

/** IPv4 is the same on an IPv6 socket, and an interface does not matter. */
export const socketKey = (local: string, remote: string): string =>
  [local, remote].map((end) => end.replace(/^\[::ffff:([\d.]+)\]/, '$1').replace(/%[^\]:]+/, '')).join(' ');
