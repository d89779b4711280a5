/** The cgroup v2 hierarchy: cgroups(7). Its mount point differs between systems (/sys/fs/cgroup, /sys/fs/cgroup/unified). */
import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TcpcryptError } from '../errors.js';
import { mountsOf } from './mounts.js';

/** The root of the cgroup v2 hierarchy, or undefined where it is not mounted. */
export const cgroupRoot = (): string | undefined => mountsOf('cgroup2')[0];

/** Where nft looks for cgroups, wherever they are mounted. */
export const NFT_CGROUPS = '/sys/fs/cgroup';

export interface Cgroup {
  readonly path: string;
  /** The kernel's number for it: the inode of its directory. */
  readonly id: bigint;
}

/** Looks up a cgroup by its directory; the root of the hierarchy by default. */
export function findCgroup(path?: string): Cgroup {
  const root = cgroupRoot();
  if (root === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
      detail: 'cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup',
    });
  const directory = path === undefined ? root : resolve(path);
  try {
    const { ino, dev } = statSync(directory, { bigint: true });
    if (dev !== statSync(root, { bigint: true }).dev)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
        detail: `${directory} is not a cgroup: cgroups are the directories below ${root}`,
      });
    return { path: directory, id: ino };
  } catch (cause) {
    if (cause instanceof TcpcryptError) throw cause;
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `there is no cgroup ${directory}`, cause });
  }
}

/** The directory of the cgroup that this process is in, or undefined without cgroup v2. */
export function ownCgroup(): string | undefined {
  const root = cgroupRoot();
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('0::'));
  return root === undefined || line === undefined ? undefined : join(root, line.slice(3));
}
