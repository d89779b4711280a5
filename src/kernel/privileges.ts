/**
 * Giving up root: capabilities(7), prctl(2). Of what root may do, a set of capabilities is left, to this process and
 * to the tools that it runs; nothing can bring the rest back.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { capset, prctl, trySeccomp } from './libc.js';

/** Numbers of linux/capability.h. */
export const CAP = { NET_BIND_SERVICE: 10, NET_ADMIN: 12 } as const;

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const PR_SET_KEEPCAPS = 8;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;

const MAX_UID = 0xfffffffe;

/** seccomp(2) has no function in the C library. */
const SYS_SECCOMP: Readonly<Record<string, number>> = { x64: 317, arm64: 277 };
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
/** BPF_RET | BPF_K, SECCOMP_RET_ALLOW: struct sock_filter. */
const ALLOW_ALL = Buffer.from([0x06, 0, 0, 0, 0, 0, 0xff, 0x7f]);

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** A user by name or number, from wherever this machine knows its users; undefined when there is none. */
export function findUser(name: string): User | undefined {
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, '--', name], { encoding: 'utf8', stdio: 'pipe' }).trim());
  try {
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return undefined;
  }
}

/** The number of a user, by name; a number stands for itself, whether or not it has a name. */
export const uidOf = (user: string): number | undefined =>
  /^\d{1,10}$/.test(user) && Number(user) <= MAX_UID ? Number(user) : findUser(user)?.uid;

/**
 * From now on this process is `user`, without further groups, and has these capabilities and no others. Its memory
 * cannot be read by other processes of the same user, nor does it go into a core file (PR_SET_DUMPABLE is off).
 * @throws ERR_TCPCRYPT_PERMISSION without root; a process for which it failed half way must end
 */
export function becomeUser(user: User, capabilities: readonly number[]): void {
  if (user.uid === 0) throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'user 0 is root' });
  prctl(PR_SET_KEEPCAPS, 1);
  const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
  for (let capability = 0; capability <= last; capability++)
    if (!capabilities.includes(capability)) prctl(PR_CAPBSET_DROP, capability);
  // These three reach all threads; of the capabilities, only this thread keeps any.
  process.setgroups?.([]);
  process.setgid?.(user.gid);
  process.setuid?.(user.uid);
  capset(capabilities);
  for (const capability of capabilities) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability);
  prctl(PR_SET_NO_NEW_PRIVS, 1);
  noNewPrivilegesForAllThreads();
}

/**
 * For a child that goes on as what its parent has become: the kernel kills it when its parent ends, however that ends
 * (PR_SET_PDEATHSIG), and its memory is closed as its parent's is.
 */
export function endWithParent(): void {
  const SIGKILL = 9;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
}

/** A seccomp filter that forbids nothing, but is put on all threads and takes "no new privileges" along. */
function noNewPrivilegesForAllThreads(): void {
  const number = SYS_SECCOMP[process.arch];
  if (number === undefined) return;
  // Where the kernel has no seccomp, the threads that have no capabilities may still run set-user-ID programs.
  trySeccomp(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ALLOW_ALL);
}
