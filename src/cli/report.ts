/** How commands speak: results on stdout, as text or JSON; errors on stderr, with their code. */
import { TcpcryptError } from '../errors.js';

export const FAILURE = 1;
export const USAGE_ERROR = 2;

/** Prints one result: `text` for people, or `value` as one line of JSON. */
export function print(json: boolean | undefined, value: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value) : text}\n`);
}

/** Prints an error and makes the process end with exit code 1, or 2 where the command line is to blame. */
export function fail(error: unknown): void {
  const known = isSystemError(error)
    ? new TcpcryptError(error.code === 'EACCES' ? 'ERR_TCPCRYPT_PERMISSION' : 'ERR_TCPCRYPT_SYSTEM', {
        detail: error.message,
      })
    : error;
  if (!(known instanceof TcpcryptError)) throw error; // a bug: with its stack
  process.stderr.write(`tcpcrypt: ${known.message}\n[${known.code}]\n`);
  if (known.cause instanceof Error) process.stderr.write(`${known.cause.message}\n`);
  process.exitCode = known.code === 'ERR_TCPCRYPT_ARGUMENT' ? USAGE_ERROR : FAILURE;
}

/** Errors of node:fs and the like. */
const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error && 'code' in error;
