/**
 * One "up" or "down" at a time on this machine, whatever their pins: they share the BPF file system and its directories.
 * The lock is flock(2) on a file that is always there and that only root can open: whoever can open a file can lock it.
 * It leaves nothing, and the kernel releases it however its holder ends. Where /proc is another one, so is the lock.
 */
import { closeSync, openSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { EAGAIN, EINTR, systemError, tryLock } from './libc.js';

/** Mode 0600, proc(5); nothing is read of it. It can be opened also where /proc/sys is mounted read-only. */
const LOCKED = '/proc/sys/kernel/cad_pid';
const WAIT_MS = 10_000;
const RETRY_MS = 20;

/** Runs `work` while nobody else on this machine runs any. @throws ERR_TCPCRYPT_SYSTEM after ten seconds in the queue */
export function exclusively<T>(work: () => T): T {
  const file = openSync(LOCKED, 'r');
  try {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const result = tryLock(file);
      if (result === 0) return work();
      if (result !== -EAGAIN && result !== -EINTR) throw systemError('flock', -result);
      if (Date.now() > deadline)
        throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: 'another "up" or "down" is at work' });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  } finally {
    closeSync(file);
  }
}
