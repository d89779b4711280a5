/** Tells systemd how we are: sd_notify(3). Does nothing where nobody wants to know. */
import * as libc from '../kernel/libc.js';

/** @param state "READY=1", "STOPPING=1", … */
export function notify(state: string): void {
  const path = process.env.NOTIFY_SOCKET;
  if (path === undefined || !/^[/@]/.test(path)) return;
  const fd = libc.socket(libc.AF_UNIX, libc.SOCK_DGRAM | libc.SOCK_CLOEXEC, 0);
  // "@": the abstract namespace, where the name begins with a zero.
  const address = Buffer.concat([Buffer.alloc(2), Buffer.from(path.replace(/^@/, '\0')), Buffer.alloc(1)]);
  address.writeUInt16LE(libc.AF_UNIX);
  if (libc.tryConnect(fd, path.startsWith('@') ? address.subarray(0, -1) : address) === 0)
    libc.trySend(fd, Buffer.from(state));
  libc.close(fd);
}
