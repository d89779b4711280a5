/** Everything on this machine that the demo could leave behind, as text to compare before and after. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { defaultPins } from '../kernel/pins.js';
import { cgroupMount } from '../lab/cgroup.js';

/** @param prefix with which the names of everything begin that the demo makes, and nobody else */
export function machineState(prefix: string): Record<string, string> {
  const ours = (lines: readonly string[]): string => lines.filter((line) => line.includes(prefix)).join('\n');
  return {
    iptables: tool('iptables-save')
      .replace(/^#.*$/gm, '')
      .replace(/\[\d+:\d+\]/g, ''),
    nftables: tool('nft', 'list', 'ruleset').replace(/packets \d+ bytes \d+/g, ''),
    'ip rule': tool('ip', 'rule'),
    routes: tool('ip', 'route', 'show', 'table', 'all'),
    // Others may be busy on this machine with these; the names tell.
    namespaces: ours(tool('ip', 'netns', 'list').split('\n')),
    mounts: ours(readFileSync('/proc/self/mounts', 'utf8').split('\n')),
    cgroups: ours(readdirSync(cgroupMount())),
    pins: ours(pins()),
    processes: ours(commandLines()),
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

function pins(): string[] {
  try {
    return readdirSync(dirname(defaultPins()));
  } catch {
    return [];
  }
}

function commandLines(): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return []; // It ended in the meantime.
    }
  });
}
