/** The flags that `listen` and `connect` share. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { EncryptionOptions, Mode } from '../socket/options.js';

export interface EncryptionFlags {
  readonly mode: Mode;
  readonly json?: boolean;
}

export function addEncryptionFlags(command: Command): Command {
  return command
    .addOption(
      new Option('--mode <mode>', 'what to do when the peer cannot encrypt: go on in plain TCP, or refuse')
        .choices(['opportunistic', 'required'])
        .default('opportunistic'),
    )
    .option('--json', 'print a JSON line on stderr when a connection is secure (or plain), and when it ends');
}

export const encryptionOptions = (flags: EncryptionFlags): EncryptionOptions => ({ mode: flags.mode });

/** A port as commander wants it parsed: whoever writes another word made a mistake in the command line. */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535) throw new InvalidArgumentError(`"${text}" is not a TCP port.`);
  return port;
}
