import type { Command } from 'commander';
import { up } from '../kernel/install.js';
import { parseWord } from './arguments.js';
import { print } from './report.js';

const TEXT = {
  loaded: 'The kernel part is up',
  unchanged: 'The kernel part was up already',
  updated: 'The kernel part was updated in place',
  replaced: 'The kernel part was replaced',
} as const;

export function register(program: Command): void {
  program
    .command('up')
    .summary('let programs on this host negotiate encryption')
    .description(
      'Let programs on this host negotiate encryption: load the kernel part (eBPF) that gives sockets TCP-ENO.\n' +
        'Needs root, once per boot. Programs that do not ask for it are not affected. Undone by "tcpcrypt down".',
    )
    .option('--cgroup <path>', 'only for processes in this cgroup (default: all)', parseWord)
    .option(
      '--pins <dir>',
      'where the kernel part is kept, on a BPF file system (default: /sys/fs/bpf/tcpcrypt/v1)',
      parseWord,
    )
    .option('--json', 'print the result as JSON')
    .action((options: { cgroup?: string; pins?: string; json?: boolean }) => {
      const report = up(options);
      print(options.json, report, `${TEXT[report.action]}: cgroup ${report.cgroup}, pins ${report.pins}`);
    });
}
