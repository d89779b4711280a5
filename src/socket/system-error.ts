/** Errors of system calls in the words of Node: what net.Socket and net.Server would have reported. */
import { getSystemErrorMap } from 'node:util';
import { TcpcryptError } from '../errors.js';

/**
 * The error of a failed system call as an `Error` with `code` ('EADDRINUSE', …), `errno`, `syscall`, `address` and
 * `port`; any other error unchanged.
 */
export function asSystemError(error: unknown, syscall: string, address: string, port: number): Error {
  if (!(error instanceof TcpcryptError)) return error instanceof Error ? error : new Error(String(error));
  if (error.errno === undefined) return error;
  const errno = -error.errno;
  const [code, message] = getSystemErrorMap().get(errno) ?? ['UNKNOWN', 'unknown error'];
  return Object.assign(new Error(`${syscall} ${code}: ${message} ${address}:${port}`, { cause: error }), {
    errno,
    code,
    syscall,
    address,
    port,
  });
}
