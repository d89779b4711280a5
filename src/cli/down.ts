import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { removeControlDirectory, sweepControlSockets } from '../daemon/control/place.js';
import { sweepCommandRules } from '../kernel/command-rules.js';
import { down } from '../kernel/install.js';
import { lockNamespace } from '../kernel/namespace-lock.js';
import { Steering } from '../kernel/steering.js';
import { isInstalled } from '../kernel/tools.js';
import { parseWord } from './arguments.js';
import { print } from './report.js';

export function register(program: Command): void {
  program
    .command('down')
    .summary('undo "tcpcrypt up"')
    .description(
      'Undo "tcpcrypt up": take the kernel part out. Connections that are encrypted stay so; new ones are plain TCP.\n' +
        'Firewall rules that a killed daemon left in force ("private", "block") are lifted; those of a running one stay.',
    )
    .option('--pins <dir>', 'where the kernel part is kept (default: /sys/fs/bpf/tcpcrypt/v1)', parseWord)
    .option('--json', 'print the result as JSON')
    .action((options: { pins?: string; json?: boolean }) => {
      const report = down(options);
      const { action, pins } = report;
      const text = action === 'removed' ? `The kernel part is gone: pins ${pins}` : nothing(pins);
      // Only where no daemon runs: its connections need the rules. Without nft there have never been any.
      const lifted =
        isInstalled('nft') && lockNamespace('daemon') !== undefined ? Steering.removeLeftovers() : [];
      lifted.push(...sweepCommandRules().map((name) => `rules of a command that is gone: ${name}`));
      lifted.push(...sweepControlSockets().map((path) => `socket of a daemon that is gone: ${path}`));
      removeControlDirectory();
      const lines = [text, ...lifted.map((what) => `removed: ${what}`)];
      print(options.json, { ...report, lifted }, lines.join('\n'));
    });
}

const nothing = (pins: string): string =>
  existsSync(pins)
    ? `${pins} holds no kernel part of ours: nothing was touched there`
    : `There was no kernel part: no pins in ${pins}`;
