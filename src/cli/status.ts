/** `tcpcrypt status`: does the daemon run, and what has it done. */
import type { Command } from 'commander';
import { ask } from '../daemon/control/client.js';
import type { Status } from '../daemon/control/protocol.js';
import { TcpcryptError } from '../errors.js';
import { addControlFlags, type ControlFlags, controlPath, duration, size, table } from './control-flags.js';
import { print } from './report.js';

/** Exit codes as systemd and the Linux Standard Base have them for "status". */
const NOT_RUNNING = 3;
const DEGRADED = 4;

export function register(program: Command): void {
  addControlFlags(program.command('status'))
    .summary('whether the daemon runs, and what it has done')
    .description(
      'Whether the daemon runs, and what it has done: connections, bytes, why some are not encrypted.',
    )
    .addHelpText(
      'after',
      `
For root and members of the group "tcpcrypt".
Exit status: 0 when it runs, 3 when it does not, 4 when it runs but does not encrypt what it should, 1 when that
cannot be found out.`,
    )
    .action((flags: ControlFlags) => run(flags));
}

async function run(flags: ControlFlags): Promise<void> {
  const path = controlPath(flags);
  let status: Status;
  try {
    status = (await ask(path, 'status')).result as Status;
  } catch (error) {
    if (!(error instanceof TcpcryptError) || error.code !== 'ERR_TCPCRYPT_NOT_RUNNING') throw error;
    print(flags.json, { state: 'not running', control: path }, `not running (nobody answers at ${path})`);
    process.exitCode = NOT_RUNNING;
    return;
  }
  print(flags.json, status, text(status));
  if (status.state === 'degraded') process.exitCode = DEGRADED;
}

function text(status: Status): string {
  const { connections: now, bytes } = status;
  const rows = [
    [
      'state',
      `${status.state}, process ${status.pid}, version ${status.version}, for ${duration(status.seconds)}`,
    ],
    ...status.problems.map((problem) => ['PROBLEM', problem]),
    [
      'connections',
      `${now.encrypted} encrypted, ${now.plain} plain, ${now.handshake} in the key exchange ` +
        `(${now.outbound} outbound, ${now.inbound} inbound)`,
    ],
    ['policy', status.policy],
    ['held SYNs', `${status.heldSyns}`],
    ['path memory', counted(status.rememberedDestinations, 'destination')],
    ...(['outbound', 'inbound'] as const).map((way) => [
      way,
      `received ${size(bytes[way].received)}, sent ${size(bytes[way].sent)}`,
    ]),
    ...(status.workers ?? []).map(({ worker, pid, connections, memoryBytes }) => [
      `worker ${worker}`,
      `process ${pid}, ${counted(connections, 'connection')}, ${size(memoryBytes)} of memory`,
    ]),
    ['resources', `${size(status.memoryBytes)} of memory, ${status.openFiles ?? 'all'} open files`],
  ];
  const lists = [
    list('counters', status.counters),
    list('plain, because of', status.fallbacks),
    list('failed, because of', status.failures),
    list('refused by the rules', status.refused ?? {}),
    list('not taken, because of the limit', status.shed),
  ];
  return [table(rows), ...lists.filter(Boolean)].join('\n\n');
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

function list(title: string, counts: Readonly<Record<string, number>>): string {
  const rows = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => [`  ${name}`, `${count}`]);
  return rows.length === 0 ? '' : `${title}\n${table(rows)}`;
}
