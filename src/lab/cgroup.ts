/** Where cgroup v2 is mounted, and the script that removes a tree of cgroups together with its processes. */
import { readFileSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { shellWord } from './tools.js';

/**
 * The mount point of cgroup v2: /sys/fs/cgroup, or /sys/fs/cgroup/unified where version 1 is mounted as well.
 * @throws ERR_TCPCRYPT_KERNEL_FEATURE when it is not mounted.
 */
export function cgroupMount(mounts: string = readFileSync('/proc/mounts', 'utf8')): string {
  for (const line of mounts.split('\n')) {
    const [, directory, type] = line.split(' ');
    // The kernel writes blank, tab, newline and backslash in octal.
    if (type === 'cgroup2' && directory !== undefined)
      return directory.replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
  }
  throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', { detail: 'cgroup v2 is not mounted' });
}

/**
 * POSIX sh: kills, by pid, every process in `cgroup` and below, then removes the directories. Processes that
 * fork while they are being killed are why it goes round until none is left; five seconds at most.
 */
export const removeCgroupScript = (cgroup: string): string => `
cgroup=${shellWord(cgroup)}
round=0
while [ -d "$cgroup" ] && [ $round -lt 100 ]; do
  for pid in $(find "$cgroup" -name cgroup.procs -exec cat {} +); do kill -9 "$pid"; done
  find "$cgroup" -depth -type d -exec rmdir {} + && break
  round=$((round + 1))
  sleep 0.05
done`;
