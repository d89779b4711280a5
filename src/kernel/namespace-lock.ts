/**
 * A lock of this network namespace that nobody can leave behind: a socket address in the abstract namespace (unix(7)).
 * It lasts as long as the descriptor is open, in this process or in one that inherited it.
 */
import {
  AF_UNIX,
  close,
  EADDRINUSE,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  socket,
  systemError,
  tryBind,
} from './libc.js';

/** @returns undefined when somebody else has it */
export function lockNamespace(subject: string): number | undefined {
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const result = tryBind(fd, Buffer.concat([family, Buffer.of(0), Buffer.from(`tcpcrypt/${subject}`)]));
  if (result === 0) return fd;
  close(fd);
  if (result !== -EADDRINUSE) throw systemError('bind', -result);
  return undefined;
}
