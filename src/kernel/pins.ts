/**
 * The directory of pins: where the loaded kernel part lives, and by its presence the record that it is loaded.
 *
 *     <pins>/eno_sockets ...    one per map
 *     <pins>/link_eno_set ...   one per program: the link that keeps it attached
 *
 * Pins are on a BPF file system (bpffs), which forgets everything at reboot, exactly like the kernel.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { TcpcryptError } from '../errors.js';
import { cgroupLink, detachLink, mapShape, openPin, withFd } from './libbpf.js';
import { close, mount, unmount } from './libc.js';
import { lookupElement, updateElement } from './map-elements.js';
import { mounts, mountsOf } from './mounts.js';

const BPF_FS_MAGIC = 0xcafe4a11;
const DEFAULT_BPFFS = '/sys/fs/bpf';
/** The source, in /proc/mounts, of a BPF file system that we mounted: how "down" knows it, whatever happened since. */
const OUR_MOUNT = 'tcpcrypt';
/** The number changes when a map's layout does: another version's pins are never touched. */
const DEFAULT_PINS = 'tcpcrypt/v1';
const LINK = 'link_';
export const INSTALL_MAP = 'eno_install';
const INSTALL_SIZE = 48;
const FIRST = Buffer.alloc(4);

/**
 * Where the pins are unless said otherwise: <bpffs>/tcpcrypt/v1. That is /sys/fs/bpf, mounted or not yet; another BPF
 * file system may be somebody's own, and is taken only where that directory does not exist.
 */
export function defaultPins(): string {
  const bpffs = existsSync(DEFAULT_BPFFS) ? DEFAULT_BPFFS : (mountsOf('bpf')[0] ?? DEFAULT_BPFFS);
  return join(bpffs, DEFAULT_PINS);
}

export const mapPin = (pins: string, map: string): string => join(pins, map);
export const linkPin = (pins: string, program: string): string => join(pins, LINK + program);

/** `struct eno_install` (bpf/eno_state.h). */
export interface Installation {
  readonly objectSha256: Buffer;
  readonly cgroupId: bigint;
  /** "up" created that many parent directories of the pins. */
  readonly madeParents: number;
}

export function writeInstallation(mapFd: number, installation: Installation): void {
  const value = Buffer.alloc(INSTALL_SIZE);
  installation.objectSha256.copy(value, 0, 0, 32);
  value.writeBigUInt64LE(installation.cgroupId, 32);
  value.writeBigUInt64LE(BigInt(installation.madeParents), 40);
  updateElement(mapFd, FIRST, value);
}

/** What `pins` hold: undefined when there is nothing; without an installation when an "up" was interrupted. */
export function readPins(
  pins: string,
): { readonly installation?: Installation; readonly programs: readonly string[] } | undefined {
  if (!mayBeOurs(pins)) return undefined;
  const programs = readdirSync(pins)
    .filter((name) => name.startsWith(LINK))
    .map((name) => name.slice(LINK.length));
  const fd = openInstallMap(pins);
  if (fd === undefined) return { programs };
  const value = withFd(fd, () => lookupElement(fd, FIRST, INSTALL_SIZE));
  if (value === undefined) return { programs };
  return {
    programs,
    installation: {
      objectSha256: value.subarray(0, 32),
      cgroupId: value.readBigUInt64LE(32),
      madeParents: Number(value.readBigUInt64LE(40)),
    },
  };
}

/**
 * A directory where an "up" has been at work, or may have: on a BPF file system, with pins of ours or nothing at all. Whatever
 * else somebody names is left alone.
 */
function mayBeOurs(pins: string): boolean {
  if (!isOnBpffs(pins) || !statSync(pins).isDirectory()) return false;
  const names = readdirSync(pins);
  return names.length === 0 || names.some(isPin);
}

const isOnBpffs = (path: string): boolean => existsSync(path) && statfsSync(path).type === BPF_FS_MAGIC;

const isPin = (name: string): boolean => name.startsWith(`${LINK}eno_`) || name.startsWith('eno_');

/** Undefined also for the record of another version, which nobody here can read. */
function openInstallMap(pins: string): number | undefined {
  const fd = openPin(mapPin(pins, INSTALL_MAP));
  if (fd === undefined || mapShape(fd).valueSize === INSTALL_SIZE) return fd;
  close(fd);
  return undefined;
}

/** Notes that another object is in place now. */
export function rewriteInstallation(pins: string, installation: Installation): void {
  const fd = openInstallMap(pins);
  if (fd !== undefined) withFd(fd, () => writeInstallation(fd, installation));
}

/** The cgroup that a program's link is attached to; undefined when it is not attached any more. */
export function attachedTo(pins: string, program: string): bigint | undefined {
  const fd = openPin(linkPin(pins, program));
  if (fd === undefined) return undefined;
  const { cgroupId } = withFd(fd, cgroupLink);
  return cgroupId === 0n ? undefined : cgroupId;
}

/** Detaches the programs and removes the directory. Files that are not ours stay, and with them the directory. */
export function removePins(pins: string): void {
  if (!mayBeOurs(pins)) return;
  const names = readdirSync(pins).filter(isPin);
  for (const name of names.filter((entry) => entry.startsWith(LINK))) {
    const fd = openPin(join(pins, name));
    if (fd !== undefined) withFd(fd, detachLink);
    unlinkSync(join(pins, name));
  }
  for (const name of names.filter((entry) => !entry.startsWith(LINK))) unlinkSync(join(pins, name));
  removeEmpty(pins);
}

/** Creates the parent directories of `path`; returns how many were missing. */
export function makeParents(path: string): number {
  const parent = dirname(path);
  if (existsSync(parent)) return 0;
  const made = makeParents(parent);
  mkdirSync(parent, { mode: 0o755 });
  return made + 1;
}

/**
 * Removes `count` parent directories of `path`, as long as they are empty. One named "tcpcrypt" goes in any case: an "up"
 * that was killed may not have come to record it.
 */
export function removeParents(path: string, count: number): void {
  const parent = dirname(path);
  if (basename(parent) === dirname(DEFAULT_PINS) && isOnBpffs(parent)) removeEmpty(parent);
  for (let i = 0, above = parent; i < count; i++, above = dirname(above)) removeEmpty(above);
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'ENOENT') throw error;
  }
}

/** Makes sure that `pins` will be on a BPF file system; returns whether one had to be mounted. */
export function ensureBpffs(pins: string): boolean {
  let ancestor = resolve(pins);
  while (!existsSync(ancestor)) ancestor = dirname(ancestor);
  if (statfsSync(ancestor).type === BPF_FS_MAGIC) return false;
  if (`${resolve(pins)}/`.startsWith(`${DEFAULT_BPFFS}/`) && existsSync(DEFAULT_BPFFS)) {
    mount(OUR_MOUNT, DEFAULT_BPFFS, 'bpf');
    return true;
  }
  throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
    detail: `${pins} is not on a BPF file system: mount -t bpf bpf ${dirname(resolve(pins))}`,
  });
}

/** Undoes {@link ensureBpffs}, unless something is pinned there; returns whether there was something to undo. */
export function unmountBpffs(): boolean {
  const ours = mounts().some(
    ({ source, path, type }) => source === OUR_MOUNT && path === DEFAULT_BPFFS && type === 'bpf',
  );
  if (!ours || !readdirSync(DEFAULT_BPFFS).every(isKernels)) return false;
  unmount(DEFAULT_BPFFS);
  return true;
}

/** The kernel's own files in a fresh BPF file system: maps.debug, progs.debug. Nobody else may use a dot. */
const isKernels = (name: string): boolean => name.includes('.');
