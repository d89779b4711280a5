/**
 * One "up" or "down" at a time. The lock is a socket address in the abstract namespace (unix(7)): it leaves no file, and the
 * kernel releases it however its holder ends.
 */
import { createHash } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
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

const WAIT_MS = 10_000;
const RETRY_MS = 20;

/** Runs `work` while nobody else, on this machine's network namespace, runs work on the same `subject`. */
export function exclusively<T>(subject: string, work: () => T): T {
  const fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  try {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const result = tryBind(fd, address(subject));
      if (result === 0) return work();
      if (result !== -EADDRINUSE) throw systemError('bind', -result);
      if (Date.now() > deadline)
        throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `somebody else is at work on ${subject}` });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  } finally {
    close(fd);
  }
}

/** `struct sockaddr_un` in the abstract namespace. */
function address(subject: string): Buffer {
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  const name = `tcpcrypt/${createHash('sha256').update(subject).digest('hex')}`;
  return Buffer.concat([family, Buffer.of(0), Buffer.from(name)]);
}
