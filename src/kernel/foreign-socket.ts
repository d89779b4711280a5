/**
 * Sockets of other processes: pidfd_getfd(2) makes a descriptor of ours for the same socket. For the owner of the process
 * and for root, where the kernel lets them trace it (ptrace(2), /proc/sys/kernel/yama/ptrace_scope).
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import * as libc from './libc.js';
import { fromSockaddr, type SocketAddress } from './sockaddr.js';

const EBADF = 9;
const ESRCH = 3;

export interface ForeignSocket {
  readonly pid: number;
  /** Its number there. */
  readonly fd: number;
  readonly local: SocketAddress;
  /** As the process sees it: the real client, behind the daemon. Undefined for a listener, or an unused socket. */
  readonly remote: SocketAddress | undefined;
}

/** Numbers of the process's descriptors that are sockets of any kind. @throws ERR_TCPCRYPT_ARGUMENT, _PERMISSION */
export function socketDescriptors(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  const refused = (cause: unknown): TcpcryptError => {
    const { code } = cause as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ESRCH' ? noProcess(pid) : notAllowed(pid);
  };
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw refused(error);
  }
  return names
    .filter((name) => {
      try {
        return readlinkSync(`${directory}/${name}`).startsWith('socket:');
      } catch {
        return false; // closed in the meantime
      }
    })
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * Runs `use` with a descriptor of the same TCP socket; undefined when that descriptor is no TCP socket.
 * @throws ERR_TCPCRYPT_ARGUMENT when there is no such process or descriptor; ERR_TCPCRYPT_PERMISSION
 */
export function withForeignSocket<T>(
  pid: number,
  fd: number,
  use: (ours: number, socket: ForeignSocket) => T,
): T | undefined {
  const pidfd = libc.tryPidfdOpen(pid);
  if (pidfd < 0) throw failure(pid, fd, 'pidfd_open', -pidfd);
  let ours: number;
  try {
    ours = libc.tryPidfdGetfd(pidfd, fd);
  } finally {
    libc.close(pidfd);
  }
  if (ours < 0) throw failure(pid, fd, 'pidfd_getfd', -ours);
  try {
    const protocol = libc.tryGetsockopt(ours, libc.SOL_SOCKET, libc.SO_PROTOCOL, 4);
    if (typeof protocol === 'number' || protocol.readInt32LE() !== libc.IPPROTO_TCP) return undefined;
    const local = address(libc.tryGetsockname(ours));
    if (local === undefined) return undefined; // MPTCP, for instance, in another family
    return use(ours, { pid, fd, local, remote: address(libc.tryGetpeername(ours)) });
  } finally {
    libc.close(ours);
  }
}

const address = (bytes: Buffer | number): SocketAddress | undefined =>
  typeof bytes === 'number' ? undefined : fromSockaddr(bytes);

function failure(pid: number, fd: number, call: string, errno: number): TcpcryptError {
  if (errno === ESRCH || errno === libc.EINVAL) return noProcess(pid);
  if (errno === EBADF)
    return new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `process ${pid} has no descriptor ${fd}` });
  if (errno === libc.EPERM || errno === libc.EACCES) return notAllowed(pid);
  return libc.systemError(call, errno);
}

const noProcess = (pid: number): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `there is no process ${pid}` });

const notAllowed = (pid: number): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_PERMISSION', { detail: `looking into process ${pid}, which is not ours` });
