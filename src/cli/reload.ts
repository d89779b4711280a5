/** `tcpcrypt reload`: the running daemon reads its policy anew. */
import type { Command } from 'commander';
import { ask } from '../daemon/control/client.js';
import { addControlFlags, type ControlFlags, controlPath } from './control-flags.js';
import { print } from './report.js';

export function register(program: Command): void {
  addControlFlags(program.command('reload'))
    .summary('let the daemon read its policy anew')
    .description(
      'Let the daemon read its policy anew. The new rules take the place of the old ones at one stroke; connections\n' +
        'that exist stay as they are. A file with mistakes changes nothing, and is reported with line and remedy.',
    )
    .addHelpText(
      'after',
      '\nFor root and members of the group "tcpcrypt". Exit status: 0 when the policy is in force.',
    )
    .action(async (flags: ControlFlags) => {
      const { result } = await ask(controlPath(flags), 'reload');
      const { policy, rules } = result as { policy: string; rules: number };
      print(
        flags.json,
        result,
        `The policy is in force: ${policy}, ${rules === 1 ? '1 rule' : `${rules} rules`}`,
      );
    });
}
