/** The administrator's tools that rules and routes are made with: nft, iptables, ip. */
import { execFileSync, spawnSync } from 'node:child_process';
import { TcpcryptError } from '../errors.js';

/** Runs a tool with `input` on its standard input; returns what it prints. */
export function run(tool: string, args: readonly string[], input = ''): string {
  try {
    return execFileSync(tool, args, {
      input,
      encoding: 'utf8',
      stdio: 'pipe',
      env: toolEnvironment(),
    });
  } catch (cause) {
    throw toolError(tool, cause);
  }
}

/** Not everybody's PATH leads to the administrator's tools. */
export const toolEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  LC_ALL: 'C',
  PATH: `${process.env.PATH || '/usr/bin:/bin'}:/usr/sbin:/sbin`,
});

export const isInstalled = (tool: string): boolean =>
  spawnSync('/bin/sh', ['-c', `command -v ${tool}`], { env: toolEnvironment(), stdio: 'ignore' }).status ===
  0;

export function toolError(tool: string, cause: unknown): TcpcryptError {
  const { code, stderr } = cause as { code?: unknown; stderr?: unknown };
  if (code === 'ENOENT')
    return new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
      detail: `${tool} is missing: install the packages nftables, iptables and iproute2`,
      cause,
    });
  const words = typeof stderr === 'string' ? stderr.trim() : String(cause);
  const denied = /not permitted|permission denied|must be root/i.test(words);
  return new TcpcryptError(denied ? 'ERR_TCPCRYPT_PERMISSION' : 'ERR_TCPCRYPT_KERNEL_FEATURE', {
    detail: `${tool}: ${words}`,
    cause,
  });
}
