/** Becoming another program: execve(2), for which Node has no word. */
import { getSystemErrorName } from 'node:util';
import { tryExec } from './libc.js';

const ENOENT = 2;
const EACCES = 13;

/**
 * This process becomes `command`, found as the shell finds it, with standard input, output and error as they were given
 * to us. Returns only when that failed.
 * @returns the exit code that a shell would have, 127 when there is no such program, 126 when it cannot be run; and why
 */
export function becomeCommand(command: string, args: readonly string[]): { code: number; reason: string } {
  const errno = tryExec(command, [command, ...args]);
  const reason =
    errno === ENOENT
      ? 'there is no such program'
      : errno === EACCES
        ? 'not executable'
        : getSystemErrorName(-errno);
  return { code: errno === ENOENT ? 127 : 126, reason };
}
