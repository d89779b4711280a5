/** `tcpcrypt paths`: what the daemon remembers of destinations, and forgetting it. */
import type { Command } from 'commander';
import { ask } from '../daemon/control/client.js';
import type { PathEntry } from '../daemon/path-memory.js';
import { parseAddress } from './arguments.js';
import { addControlFlags, type ControlFlags, controlPath, duration, table } from './control-flags.js';
import { print } from './report.js';

interface Flags extends ControlFlags {
  /** Everything, or what concerns one address. */
  readonly flush?: true | string;
}

export function register(program: Command): void {
  addControlFlags(program.command('paths'))
    .summary('what the daemon remembers of destinations')
    .description(
      'What the daemon remembers of destinations: who encrypts, and who is left in peace for how long, and why.',
    )
    .option(
      '--flush [address]',
      'forget it all, or one address: the next connection asks again',
      parseAddress,
    )
    .addHelpText(
      'after',
      `
For root and members of the group "tcpcrypt". Under the policy "private" none of this is consulted.`,
    )
    .action((flags: Flags) => (flags.flush === undefined ? show(flags) : flush(flags)));
}

async function show(flags: Flags): Promise<void> {
  const paths = (await ask(controlPath(flags), 'paths')).items as PathEntry[];
  print(flags.json, paths, text(paths));
}

async function flush(flags: Flags): Promise<void> {
  const address = typeof flags.flush === 'string' ? { address: flags.flush } : {};
  const { result } = await ask(controlPath(flags), 'flush-paths', address);
  print(flags.json, result, `${(result as { forgotten: number }).forgotten} forgotten`);
}

const HEAD = ['DESTINATION', 'PORT', 'LAST', 'FAILURES', 'ENCRYPTED BEFORE', 'LEFT IN PEACE', 'FORGOTTEN IN'];

const text = (paths: readonly PathEntry[]): string =>
  table([
    HEAD,
    ...paths.map((path) => [
      path.address ?? path.network ?? '-',
      path.port === undefined ? '*' : `${path.port}`,
      path.last,
      `${path.failures}`,
      path.encryptedBefore === undefined ? '-' : path.encryptedBefore ? 'yes' : 'no',
      path.quietSeconds === 0 ? '-' : duration(path.quietSeconds),
      duration(path.forgottenInSeconds),
    ]),
  ]);
