import type { Command } from 'commander';
import { down } from '../kernel/install.js';
import { print } from './report.js';

export function register(program: Command): void {
  program
    .command('down')
    .summary('undo "tcpcrypt up"')
    .description(
      'Undo "tcpcrypt up": take the kernel part out. Connections that are encrypted stay so; new ones are plain TCP.',
    )
    .option('--pins <dir>', 'where the kernel part is kept (default: /sys/fs/bpf/tcpcrypt/v1)')
    .option('--json', 'print the result as JSON')
    .action((options: { pins?: string; json?: boolean }) => {
      const report = down(options);
      const text = report.action === 'removed' ? 'The kernel part is gone' : 'There was no kernel part';
      print(options.json, report, `${text}: pins ${report.pins}`);
    });
}
