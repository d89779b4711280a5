/** The other end of the control socket: what `tcpcrypt status` and its siblings use. */
import { statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { ERRORS, type ErrorCode, TcpcryptError } from '../../errors.js';
import { linesOf } from './lines.js';
import { ANSWER_LIMIT, type Answer, type CommandName, type Request } from './protocol.js';

/** How long the daemon may take to say something (ms). */
const PATIENCE = 10_000;

/**
 * Asks one question.
 * @returns the result, and the items of a list
 * @throws ERR_TCPCRYPT_NOT_RUNNING, ERR_TCPCRYPT_PERMISSION, and whatever the daemon answers
 */
export async function ask(
  path: string,
  command: CommandName,
  parameters: Omit<Request, 'command'> = {},
): Promise<{ readonly result: unknown; readonly items: readonly unknown[] }> {
  const socket = createConnection({ path });
  socket.on('error', () => {}); // the iterator throws it
  socket.setTimeout(PATIENCE, () =>
    socket.destroy(new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `the daemon at ${path} is silent` })),
  );
  socket.write(`${JSON.stringify({ command, ...parameters })}\n`);
  const items: unknown[] = [];
  try {
    for await (const line of linesOf(socket, ANSWER_LIMIT)) {
      const answer = parse(line);
      if ('item' in answer) items.push(answer.item);
      else if ('result' in answer) return { result: answer.result, items };
      else throw errorOf(answer.error);
    }
  } catch (error) {
    throw connectionError(path, error as Error);
  } finally {
    socket.destroy();
  }
  throw new TcpcryptError('ERR_TCPCRYPT_NOT_RUNNING', { detail: `${path} was closed` });
}

function parse(line: string): Answer {
  try {
    const answer: unknown = JSON.parse(line);
    if (typeof answer === 'object' && answer !== null) {
      if ('item' in answer || 'result' in answer || ('error' in answer && isError(answer.error)))
        return answer as Answer;
    }
  } catch {
    // Not JSON.
  }
  throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: 'the control socket is not that of a daemon' });
}

const isError = (value: unknown): value is { code: string; message: string } =>
  typeof value === 'object' && value !== null && 'code' in value && 'message' in value;

function errorOf({ code, message }: { code: string; message: string }): Error {
  const known = code in ERRORS ? (code as ErrorCode) : 'ERR_TCPCRYPT_SYSTEM';
  const prefix = ERRORS[known].message;
  // The daemon's message begins with that of the table; it is not said twice.
  const detail = message.startsWith(`${prefix} (`) ? message.slice(prefix.length + 2, -1) : message;
  return new TcpcryptError(known, detail === prefix ? {} : { detail });
}

function connectionError(path: string, cause: Error): TcpcryptError {
  if (cause instanceof TcpcryptError) return cause;
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM')
    return new TcpcryptError('ERR_TCPCRYPT_PERMISSION', {
      detail: `${path}: be root, or in the group "tcpcrypt"`,
    });
  // So says the kernel also of what is no socket.
  if (code === 'ECONNREFUSED' && !isSocket(path))
    return new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `${path} is no socket`,
    });
  if (code === 'ENOENT' || code === 'ECONNREFUSED')
    return new TcpcryptError('ERR_TCPCRYPT_NOT_RUNNING', { detail: path });
  return new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `${path}: ${cause.message}`, cause });
}

function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return true; // it was, a moment ago
  }
}
