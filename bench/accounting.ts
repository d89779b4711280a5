/** CPU time and memory of a host, as the operating system counts them: everything that runs in its cgroup. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '#src/lab/host.js';

/** Seconds of user and system time. Work in soft interrupts counts for whoever was interrupted. */
export function cpuSeconds(host: Host): number {
  const stat = readFileSync(join(host.cgroup, 'cpu.stat'), 'utf8');
  const [, microseconds] = /^usage_usec (\d+)/m.exec(stat) ?? [];
  return Number(microseconds) / 1e6;
}

/** KiB of resident memory, of all processes. Socket buffers in the kernel are not in it. */
export function residentKiB(host: Host): number {
  let sum = 0;
  for (const pid of readFileSync(join(host.cgroup, 'cgroup.procs'), 'utf8').trim().split('\n')) {
    const [, kib] = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')) ?? [];
    sum += Number(kib ?? 0);
  }
  return sum;
}
