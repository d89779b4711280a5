/** Where the cgroup v2 hierarchy and the BPF file system are mounted: proc(5), /proc/mounts. */
import { readFileSync } from 'node:fs';

export interface Mount {
  /** What was mounted; for file systems without a device a free word. */
  readonly source: string;
  readonly path: string;
  readonly type: string;
}

/** The mounts of this process's mount namespace; octal escapes (space, tab, backslash) are resolved. */
export function mounts(): Mount[] {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields.length >= 3)
    .map(([source = '', path = '', type = '']) => ({
      source,
      path: path.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8))),
      type,
    }));
}

/** Mount points of one type of file system, in the order they were mounted. */
export const mountsOf = (type: string): string[] =>
  mounts()
    .filter((mount) => mount.type === type)
    .map((mount) => mount.path);
