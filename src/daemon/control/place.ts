/**
 * Where the control socket is. There may be a daemon in each network namespace, so the file is named after the
 * namespace: the inode that `stat -L /proc/self/ns/net` shows.
 */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { TcpcryptError } from '../../errors.js';
import * as libc from '../../kernel/libc.js';

const DIRECTORY = '/run/tcpcrypt';
/** What {@link defaultControlPath} may have named. */
const OURS = /^net-\d+\.sock$/;
/** Whoever has just made a socket may not listen yet (ms). */
const YOUNG = 10_000;
/** So often is tried anew when another daemon, which ends, removes the directory under us. */
const TRIES = 5;
/** Whoever is in this group may ask; where there is none, only root. */
const GROUP = 'tcpcrypt';
/** Clients that may wait to be accepted. */
const BACKLOG = 16;
/** The longest `sun_path`, without its zero (unix(7)). */
const PATH_LIMIT = 107;

export const defaultControlPath = (): string =>
  `${DIRECTORY}/net-${statSync('/proc/self/ns/net', { bigint: true }).ino}.sock`;

/**
 * A listening socket at `path`, mode 0660 root:tcpcrypt, or 0600 without such a group. One that a daemon left
 * behind when it was killed is replaced.
 * @returns the descriptor; the caller owns it and the file
 * @throws ERR_TCPCRYPT_ARGUMENT when somebody answers there, as the daemon of another network namespace
 */
export function openControlSocket(path: string, group: string = GROUP): number {
  const address = unixAddress(path);
  const fd = libc.socket(libc.AF_UNIX, libc.SOCK_STREAM | libc.SOCK_CLOEXEC | libc.SOCK_NONBLOCK, 0);
  // Nobody may connect before the file has its owner.
  const mask = process.umask(0o177);
  try {
    let result = -libc.ENOENT;
    for (let tries = TRIES; result === -libc.ENOENT && tries > 0; tries--) {
      makeDirectory(dirname(path));
      result = libc.tryBind(fd, address);
    }
    if (result === -libc.EADDRINUSE && !lstatSync(path).isSocket())
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
        detail: `${path} is no socket, and is left as it is`,
      });
    if (result === -libc.EADDRINUSE && !answers(address)) {
      unlinkSync(path);
      result = libc.tryBind(fd, address);
    }
    if (result === -libc.EADDRINUSE)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
        detail: `another program, perhaps a daemon, answers at ${path}: name another place`,
      });
    if (result !== 0) throw libc.systemError(`bind ${path}`, -result);
    const gid = groupId(group);
    if (gid !== undefined) {
      chownSync(path, 0, gid);
      chmodSync(path, 0o660);
    }
    libc.listen(fd, BACKLOG);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  } finally {
    process.umask(mask);
  }
}

/** For a guard: POSIX sh that removes sockets, and our directory when there are no others. */
export const removeSocketsScript = (paths: readonly string[]): string =>
  [
    ...paths.map(shellWord).map((path) => `[ ! -S ${path} ] || rm -f -- ${path}`),
    `[ ! -d ${DIRECTORY} ] || rmdir ${DIRECTORY} 2>/dev/null || true`,
  ].join('\n');

/** Whatever the umask is, the sockets' own modes decide. */
function makeDirectory(path: string): void {
  const mask = process.umask(0o022);
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } finally {
    process.umask(mask);
  }
}

/**
 * Removes the control sockets of daemons that were killed together with their guards.
 * @returns the paths
 */
export function sweepControlSockets(): string[] {
  let names: string[];
  try {
    names = readdirSync(DIRECTORY).filter((name) => OURS.test(name));
  } catch {
    return []; // there is none
  }
  const stale = names.map((name) => join(DIRECTORY, name)).filter(isStale);
  for (const path of stale) unlinkSync(path);
  return stale;
}

/** When there are no sockets any more. */
export function removeControlDirectory(): void {
  try {
    rmdirSync(DIRECTORY);
  } catch {
    // There are, or there is none.
  }
}

function isStale(path: string): boolean {
  try {
    const stat = lstatSync(path);
    return stat.isSocket() && Date.now() - stat.mtimeMs > YOUNG && !answers(unixAddress(path));
  } catch {
    return false; // gone meanwhile
  }
}

const shellWord = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Whether somebody listens; after kill -9 the file is still there, and nobody does. */
function answers(address: Uint8Array): boolean {
  const fd = libc.socket(libc.AF_UNIX, libc.SOCK_STREAM | libc.SOCK_CLOEXEC | libc.SOCK_NONBLOCK, 0);
  const result = libc.tryConnect(fd, address);
  libc.close(fd);
  return result !== -libc.ECONNREFUSED;
}

/** `struct sockaddr_un`. */
function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (!path.startsWith('/') || bytes.length > PATH_LIMIT || bytes.includes(0))
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `a socket: an absolute path of at most ${PATH_LIMIT} bytes: ${path}`,
    });
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(libc.AF_UNIX);
  bytes.copy(address, 2);
  return address;
}

/** group(5); Node has no word for it. */
function groupId(name: string): number | undefined {
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const id = line?.split(':')[2];
  return id !== undefined && /^\d+$/.test(id) ? Number(id) : undefined;
}
