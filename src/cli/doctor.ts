import type { Command } from 'commander';
import { ask } from '../daemon/control/client.js';
import { defaultControlPath } from '../daemon/control/place.js';
import type { Status } from '../daemon/control/protocol.js';
import { type Check, diagnose } from '../kernel/doctor.js';
import { parseWord } from './arguments.js';
import { FAILURE, print } from './report.js';

export function register(program: Command): void {
  program
    .command('doctor')
    .summary('find out what this host lacks for encryption')
    .description(
      'Find out what this host lacks for encryption: checks the kernel, permissions, tools, and a connection to itself.\n' +
        'Names the remedy for each failed check. Exit code 1 when something needed is missing.',
    )
    .option('--pins <dir>', 'where the kernel part is kept (default: /sys/fs/bpf/tcpcrypt/v1)', parseWord)
    .option('--json', 'print the result as JSON')
    .action(async (options: { pins?: string; json?: boolean }) => {
      const checks = [...(await diagnose(options.pins)), ...(await daemon())];
      print(options.json, { ok: checks.every(isFine), checks }, checks.map(line).join('\n'));
      if (!checks.every(isFine)) process.exitCode = FAILURE;
    });
}

/** Where one runs that we may ask: whether it does what it should. */
async function daemon(): Promise<Check[]> {
  let status: Status;
  try {
    status = (await ask(defaultControlPath(), 'status')).result as Status;
  } catch {
    return [];
  }
  const { state, pid, problems } = status;
  return [
    {
      name: 'daemon',
      ok: problems.length === 0,
      needed: true,
      found: `${state}, process ${pid}${problems.map((problem) => `; ${problem}`).join('')}`,
      remedy: 'see "tcpcrypt status", and the daemon\'s log',
    },
  ];
}

const isFine = (check: Check): boolean => check.ok || !check.needed;

function line(check: Check): string {
  const verdict = check.ok ? 'ok     ' : check.needed ? 'MISSING' : 'missing';
  return `${verdict}  ${check.name}: ${check.found}${check.ok ? '' : `\n         ${check.remedy}`}`;
}
