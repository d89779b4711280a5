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
  if (!(error instanceof TcpcryptError)) throw error;
  process.stderr.write(`tcpcrypt: ${error.message}\n[${error.code}]\n`);
  if (error.cause instanceof Error) process.stderr.write(`${error.cause.message}\n`);
  process.exitCode = error.code === 'ERR_TCPCRYPT_ARGUMENT' ? USAGE_ERROR : FAILURE;
}
