/**
 * Real connections: the kernel part in a cgroup of our own, into which this process moves, and which is removed again,
 * also after kill -9.
 */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect, createServer, type Server, type Socket } from '#src/index.js';
import { Guard } from '#src/kernel/guard.js';
import { down, up } from '#src/kernel/install.js';
import { defaultPins } from '#src/kernel/pins.js';
import { cgroupMount } from '#src/lab/cgroup.js';

export interface KernelPart {
  undo(): Promise<void>;
}

/** For this process. */
export function kernelPart(name: string): KernelPart {
  const mount = cgroupMount();
  const unique = `tcpcrypt-lab-${process.pid}-${name}`;
  const cgroup = join(mount, unique);
  const before = ownCgroup(mount);
  mkdirSync(cgroup);
  const part = kernelPartIn(cgroup, unique, `; rmdir '${cgroup}' 2>/dev/null || :`);
  writeFileSync(join(cgroup, 'cgroup.procs'), String(process.pid));
  return {
    async undo() {
      writeFileSync(join(before, 'cgroup.procs'), String(process.pid));
      await part.undo();
      rmdirSync(cgroup);
    },
  };
}

/** `afterwards`: more for the guard to do, when this process is killed. */
export function kernelPartIn(cgroup: string, unique: string, afterwards = ''): KernelPart {
  const pins = join(dirname(defaultPins()), unique);
  const main = fileURLToPath(new URL('../../../../dist/cli/main.js', import.meta.url));
  const guard = new Guard(`'${process.execPath}' '${main}' down --pins '${pins}'${afterwards}`);
  up({ cgroup, pins });
  return {
    async undo() {
      down({ pins });
      await guard.standDown();
    },
  };
}

/** The directory of the cgroup (version 2) in which this process is. */
function ownCgroup(mount: string): string {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((one) => one.startsWith('0::'));
  return join(mount, line?.slice('0::'.length) ?? '/');
}

export interface At {
  readonly host: string;
  readonly port: number;
}

export function listening(
  listener: (socket: Socket) => void,
  at: At = { host: '127.0.0.1', port: 0 },
  aware = false,
): Promise<{ server: Server; port: number }> {
  const server = createServer({ mode: 'required', allowHalfOpen: true, aware }, listener);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at.port, at.host, () => {
      const address = server.address();
      resolve({ server, port: typeof address === 'object' && address !== null ? address.port : 0 });
    });
  });
}

export function connected(port: number, host = '127.0.0.1', aware = false): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host, mode: 'required', allowHalfOpen: true, aware });
    socket.once('error', reject);
    socket.once('ready', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
