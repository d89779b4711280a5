/** `tcpcrypt resumption`: whether later connections may resume earlier ones, for the whole machine. */
import { type Command, Option } from 'commander';
import { defaultPins } from '../kernel/pins.js';
import { switchResumption } from '../kernel/resumption-switch.js';
import { parseWord } from './arguments.js';
import { print } from './report.js';

interface Flags {
  readonly flush?: boolean;
  readonly refuse?: boolean;
  readonly allow?: boolean;
  readonly pins?: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command('resumption')
    .summary('forget, refuse or allow sessions that later connections resume')
    .description(
      'Whether connections of this host resume earlier ones, which saves them the key exchange. Without an option: how it is.\n' +
        'Goes for the daemon and for every program that uses the library; connections that exist go on.',
    )
    .option('--flush', 'let all programs forget all sessions now: the next connections exchange keys')
    .addOption(new Option('--refuse', 'and keep it so, until --allow or a reboot').conflicts('allow'))
    .option('--allow', 'allow it again')
    .option('--pins <dir>', 'where the kernel part is kept (default: /sys/fs/bpf/tcpcrypt/v1)', parseWord)
    .option('--json', 'print the result as JSON')
    .action(({ flush, refuse, allow, pins, json }: Flags) => {
      const report = switchResumption(pins ?? defaultPins(), {
        ...(refuse ? { allowed: false } : allow ? { allowed: true } : {}),
        flush: flush ?? false,
      });
      const forgotten = flush || refuse ? ', and all sessions are forgotten' : '';
      print(json, report, `Sessions are ${report.allowed ? 'resumed' : 'not resumed'}${forgotten}`);
    });
}
