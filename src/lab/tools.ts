/** The system's own tools (`ip`, `nft`, `sysctl`, …), run to completion. */
import { spawnSync } from 'node:child_process';
import { TcpcryptError } from '../errors.js';

/** Root's shell does not always have the directories of the system tools in its path (`su` without `-`). */
export const TOOL_PATH = `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`;

const TIMEOUT_MS = 10_000;

/**
 * Runs a tool and returns what it printed. Synchronous: these take milliseconds, and a topology that is
 * built in one go needs no state for "half built".
 * @throws ERR_TCPCRYPT_KERNEL_FEATURE when the tool is not installed, ERR_TCPCRYPT_LAB when it fails.
 */
export function tool(command: string, args: readonly string[], input = ''): string {
  const { error, status, signal, stdout, stderr } = spawnSync(command, args, {
    input,
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    env: { ...process.env, PATH: TOOL_PATH },
  });
  if (error !== undefined && (error as NodeJS.ErrnoException).code === 'ENOENT')
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', { detail: `${command} is not installed` });
  if (error !== undefined || status !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_LAB', {
      detail: `${[command, ...args].join(' ')}: ${stderr.trim() || error?.message || signal || `exit code ${status}`}`,
      cause: error,
    });
  return stdout;
}

/** `value` as one word of POSIX sh. */
export const shellWord = (value: string): string => `'${value.replaceAll("'", "'\\''")}'`;
