/** What the demo needs on this machine. */
import { execFileSync } from 'node:child_process';
import { TcpcryptError } from '../errors.js';

/** Tool → Debian package. */
const TOOLS = {
  ip: 'iproute2',
  ss: 'iproute2',
  nsenter: 'util-linux',
  nft: 'nftables',
  iptables: 'iptables',
  tcpdump: 'tcpdump',
  curl: 'curl',
  nginx: 'nginx-light',
} as const;

/** @throws ERR_TCPCRYPT_PERMISSION, ERR_TCPCRYPT_KERNEL_FEATURE with the names of the packages */
export function checkRequirements(): void {
  if (process.platform !== 'linux') throw new TcpcryptError('ERR_TCPCRYPT_PLATFORM');
  if (process.getuid?.() !== 0) {
    throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION', { detail: 'the demo makes network namespaces' });
  }
  const missing = Object.entries(TOOLS).filter(([name]) => !present(name));
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([, debian]) => debian))].join(' ');
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_FEATURE', {
      detail: `missing: ${missing.map(([name]) => name).join(', ')}; on Debian: apt-get install ${packages}`,
    });
  }
}

function present(name: string): boolean {
  try {
    execFileSync('/bin/sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin; command -v ${name}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
