/**
 * A place of its own for each test file: a cgroup, a BPF file system, pins. All of it is removed when the file is
 * through, and by a guard also when it is killed.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { cgroupRoot, ownCgroup } from '#src/kernel/cgroup.js';
import { type EnoOffer, openEnoSocket } from '#src/kernel/eno-socket.js';
import { Guard } from '#src/kernel/guard.js';
import { down, up } from '#src/kernel/install.js';
import { bind, mount, unmount } from '#src/kernel/libc.js';
import { sockaddr } from '#src/kernel/sockaddr.js';

export interface Lab {
  readonly directory: string;
  readonly bpffs: string;
  readonly pins: string;
  readonly cgroup: string;
  /** Makes a further cgroup inside the lab's. */
  nested(name: string): string;
}

/** An empty lab: nothing is loaded, and this process is not in its cgroup. */
export function emptyLab(): Lab {
  assert.equal(process.geteuid?.(), 0, 'these tests load BPF programs: run them as root');
  const root = cgroupRoot();
  assert.ok(root !== undefined, 'cgroup v2 is not mounted');
  const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-lab-'));
  const bpffs = join(directory, 'bpf');
  const pins = join(bpffs, 'tcpcrypt', 'v1');
  const cgroup = join(root, `tcpcrypt-lab-${process.pid}`);
  const nested: string[] = [];
  const guard = new Guard(
    `rm -rf ${bpffs}/*; umount ${bpffs}; sleep 0.2; rmdir ${cgroup}/* ${cgroup}; rm -rf ${directory}`,
  );
  mkdirSync(bpffs);
  mkdirSync(cgroup);
  mount('bpf', bpffs, 'bpf');
  const home = ownCgroup() ?? root;
  after(async () => {
    enter(home);
    down({ pins });
    unmount(bpffs);
    for (const path of nested.reverse()) rmdirSync(path);
    rmdirSync(cgroup);
    rmSync(directory, { recursive: true });
    await guard.standDown();
  });
  return {
    directory,
    bpffs,
    pins,
    cgroup,
    nested(name) {
      const path = join(cgroup, name);
      mkdirSync(path);
      nested.push(path);
      return path;
    },
  };
}

/** A lab whose cgroup has the kernel part and holds this process. */
export function lab(): Lab {
  const place = emptyLab();
  up(place);
  enter(place.cgroup);
  return place;
}

/** Moves this process into a cgroup: sockets belong to the cgroup in which they are created. */
export const enter = (cgroup: string): void =>
  writeFileSync(join(cgroup, 'cgroup.procs'), String(process.pid));

export const shell = (command: string): string =>
  execFileSync('/bin/sh', ['-c', command], { encoding: 'utf8' });

export const hex = (text: string): Buffer => Buffer.from(text, 'hex');

/** Node has no public way to the descriptor of a socket. */
export function fdOf(socket: Socket | Server): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  assert.ok(handle !== null, 'the socket is closed');
  return handle.fd;
}

/** A listener on loopback, with ENO when `offer` is given, that accepts one connection after the other. */
export async function listen(
  offer?: EnoOffer,
  host = '127.0.0.1',
): Promise<{ server: Server; port: number; accept: () => Promise<Socket> }> {
  const waiting: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    waiting.push(socket);
    server.emit('waiting');
  });
  if (offer === undefined) server.listen({ host, port: 0 });
  else {
    const fd = openEnoSocket(host.includes(':') ? 6 : 4, offer);
    bind(fd, sockaddr(host, 0));
    server.listen({ fd });
  }
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return {
    server,
    port: address.port,
    async accept() {
      while (waiting.length === 0) await once(server, 'waiting');
      const socket = waiting.shift();
      assert.ok(socket !== undefined);
      return socket;
    },
  };
}

/** Connects, with ENO when `offer` is given. */
export async function dial(port: number, offer?: EnoOffer, host = '127.0.0.1'): Promise<Socket> {
  const socket =
    offer === undefined
      ? new Socket({ allowHalfOpen: true })
      : new Socket({ fd: openEnoSocket(host.includes(':') ? 6 : 4, offer), allowHalfOpen: true });
  socket.connect({ host, port });
  await once(socket, 'connect');
  return socket;
}

/** Both ends of one connection over loopback; closed, with the listener, by the returned function. */
export async function pair(
  offer: EnoOffer | undefined,
  acceptable: EnoOffer | undefined,
  host?: string,
): Promise<{ client: Socket; server: Socket; listener: Server; close: () => void }> {
  const { server: listener, port, accept } = await listen(acceptable, host);
  const client = await dial(port, offer, host);
  const server = await accept();
  return {
    client,
    server,
    listener,
    close() {
      client.destroy();
      server.destroy();
      listener.close();
    },
  };
}
