/**
 * One "up" or "down" at a time on this machine, whatever their pins: they share the BPF file system and its directories.
 * The lock is flock(2) on the root of the cgroup hierarchy: it leaves no file, and the kernel releases it however its
 * holder ends.
 */
import { closeSync, openSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { cgroupRoot } from './cgroup.js';
import { EAGAIN, EINTR, systemError, tryLock } from './libc.js';

const WAIT_MS = 10_000;
const RETRY_MS = 20;

/** Runs `work` while nobody else on this machine runs any. @throws ERR_TCPCRYPT_SYSTEM after ten seconds in the queue */
export function exclusively<T>(work: () => T): T {
  const directory = openSync(cgroupRoot() ?? '/sys', 'r');
  try {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const result = tryLock(directory);
      if (result === 0) return work();
      if (result !== -EAGAIN && result !== -EINTR) throw systemError('flock', -result);
      if (Date.now() > deadline)
        throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: 'another "up" or "down" is at work' });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  } finally {
    closeSync(directory);
  }
}
