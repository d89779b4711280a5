/**
 * How commands speak: results on stdout, as text or JSON; errors on stderr, with their code. With --json an error is on
 * stdout as well: {"error":{"code":…,"message":…}}.
 */
import { CommanderError } from 'commander';
import { TcpcryptError } from '../errors.js';

export const FAILURE = 1;
const USAGE_ERROR = 2;

/** Prints one result: `text` for people, or `value` as one line of JSON. */
export function print(json: boolean | undefined, value: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value) : text}\n`);
}

/**
 * Prints an error and makes the process end with exit code 1, or 2 where the command line is to blame.
 * @param json where a program reads what the command has to say; undefined: nowhere
 */
export function fail(error: unknown, json?: NodeJS.WritableStream): void {
  if (error instanceof CommanderError) {
    // It has printed its own errors, help and version.
    process.exitCode = error.exitCode === 0 ? 0 : USAGE_ERROR;
    const message = error.message.replace(/^error: /, '');
    if (error.exitCode !== 0) asJson(json, 'ERR_TCPCRYPT_ARGUMENT', message);
    return;
  }
  const known = isSystemError(error)
    ? new TcpcryptError(error.code === 'EACCES' ? 'ERR_TCPCRYPT_PERMISSION' : 'ERR_TCPCRYPT_SYSTEM', {
        detail: error.message,
      })
    : error;
  if (!(known instanceof TcpcryptError)) throw error; // a bug: with its stack
  asJson(json, known.code, known.message);
  if (json !== process.stderr) {
    process.stderr.write(`tcpcrypt: ${known.message}\n[${known.code}]\n`);
    if (known.cause instanceof Error) process.stderr.write(`${known.cause.message}\n`);
  }
  process.exitCode = known.code === 'ERR_TCPCRYPT_ARGUMENT' ? USAGE_ERROR : FAILURE;
}

const asJson = (to: NodeJS.WritableStream | undefined, code: string, message: string): boolean | undefined =>
  to?.write(`${JSON.stringify({ error: { code, message } })}\n`);

/** Errors of node:fs and the like. */
const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error && 'code' in error;
