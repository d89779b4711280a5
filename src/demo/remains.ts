/** Everything on this machine that the demo could leave behind, as text to compare before and after. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cgroupMount } from '../lab/cgroup.js';

export function machineState(): Record<string, string> {
  return {
    iptables: tool('iptables-save')
      .replace(/^#.*$/gm, '')
      .replace(/\[\d+:\d+\]/g, ''),
    nftables: tool('nft', 'list', 'ruleset').replace(/packets \d+ bytes \d+/g, ''),
    'ip rule': tool('ip', 'rule'),
    namespaces: tool('ip', 'netns', 'list'),
    mounts: readFileSync('/proc/self/mounts', 'utf8'),
    cgroups: readdirSync(cgroupMount(), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .join('\n'),
    pins: bpfPins('/sys/fs/bpf').join('\n'),
    processes: ownProcesses().join('\n'),
  };
}

/** The names of those parts that differ. */
export function differences(before: Record<string, string>, after: Record<string, string>): string[] {
  return Object.keys(before).filter((name) => before[name] !== after[name]);
}

function tool(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}

function bpfPins(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true }).map(String).sort();
  } catch {
    return [];
  }
}

/** Programs whose command line names a demo or lab of this process. */
function ownProcesses(): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (words.includes(`tcpcrypt-lab-${process.pid}-`)) found.push(words.replaceAll('\0', ' '));
    } catch {
      // It ended in the meantime.
    }
  }
  return found;
}
