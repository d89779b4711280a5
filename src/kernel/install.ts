/**
 * Loading the kernel part and taking it out again. Root only.
 *
 * `up` either succeeds as a whole or leaves nothing: it works in a staging directory beside the pins, and the
 * last step renames it. `down` is its exact inverse, also of one that was killed half way.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TcpcryptError } from '../errors.js';
import { type Cgroup, findCgroup } from './cgroup.js';
import {
  BpfObject,
  cgroupLink,
  type MapShape,
  mapShape,
  type ObjectContents,
  openPin,
  programFdById,
  updateLink,
  withFd,
} from './libbpf.js';
import { close } from './libc.js';
import { exclusively } from './lock.js';
import {
  attachedTo,
  defaultPins,
  ensureBpffs,
  INSTALL_MAP,
  type Installation,
  linkPin,
  makeParents,
  mapPin,
  readPins,
  removeParents,
  removePins,
  rewriteInstallation,
  unmountBpffs,
  writeInstallation,
} from './pins.js';

export interface UpOptions {
  /** Directory of the cgroup whose processes get TCP-ENO; the root of the hierarchy, i.e. all processes, by default. */
  readonly cgroup?: string;
  /** Directory for the pins, on a BPF file system; `<bpffs>/tcpcrypt/v1` by default. */
  readonly pins?: string;
  /** The object file; the one of this package by default. */
  readonly object?: string;
}

export interface UpReport {
  /**
   * 'loaded': for the first time. 'unchanged': it was up already. 'updated': the programs were exchanged in place,
   * open listeners and connections keep their state. 'replaced': as a down and an up, without a gap.
   */
  readonly action: 'loaded' | 'unchanged' | 'updated' | 'replaced';
  readonly cgroup: string;
  readonly pins: string;
  readonly objectSha256: string;
  /** This call mounted the BPF file system. */
  readonly mountedBpffs: boolean;
}

export interface DownReport {
  readonly action: 'removed' | 'nothing';
  readonly pins: string;
  readonly unmountedBpffs: boolean;
}

const STAGING = '_new';
const objectOfThisPackage = (): string => fileURLToPath(new URL('../bpf/eno.bpf.o', import.meta.url));

/** Loads the kernel part, or brings it up to date. Does nothing when it is up already. */
export function up(options: UpOptions = {}): UpReport {
  requireRoot();
  const cgroup = findCgroup(options.cgroup);
  const pins = resolve(options.pins ?? defaultPins());
  const image = readObject(options.object ?? objectOfThisPackage());
  const objectSha256 = createHash('sha256').update(image).digest();
  const report = (action: UpReport['action'], mountedBpffs = false): UpReport => ({
    action,
    cgroup: cgroup.path,
    pins,
    objectSha256: objectSha256.toString('hex'),
    mountedBpffs,
  });

  return exclusively(() => {
    const interrupted = readPins(pins + STAGING)?.installation; // of an "up" that was killed
    removePins(pins + STAGING);
    const found = readPins(pins);
    const present = found?.installation;
    if (present !== undefined && corresponds(BpfObject.inspect(image), pins, cgroup)) {
      if (present.objectSha256.equals(objectSha256)) return report('unchanged');
      updateInPlace(image, pins);
      rewriteInstallation(pins, { ...present, objectSha256 });
      return report('updated');
    }
    const madeBefore = (present ?? interrupted)?.madeParents ?? 0;
    const mountedBpffs = install(image, pins, cgroup, objectSha256, madeBefore);
    return report(found === undefined ? 'loaded' : 'replaced', mountedBpffs);
  });
}

/** Takes the kernel part out: every program, map, pin and directory, and the mount, that {@link up} made. */
export function down(options: { readonly pins?: string } = {}): DownReport {
  requireRoot();
  const pins = resolve(options.pins ?? defaultPins());
  const staging = pins + STAGING;
  return exclusively(() => {
    const found = readPins(pins) ?? readPins(staging);
    removePins(staging);
    removePins(pins);
    if (found !== undefined || !existsSync(pins)) removeParents(pins, found?.installation?.madeParents ?? 0);
    const unmountedBpffs = unmountBpffs();
    return { action: found === undefined ? 'nothing' : 'removed', pins, unmountedBpffs };
  });
}

function requireRoot(): void {
  if (process.platform !== 'linux') throw new TcpcryptError('ERR_TCPCRYPT_PLATFORM');
  if (process.geteuid?.() !== 0) throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION');
}

function readObject(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `cannot read the BPF object ${path}: npm run build`,
      cause,
    });
  }
}

/** Do the pins hold the same programs, all of them attached to this cgroup, and maps of the same shape? */
function corresponds(object: ObjectContents, pins: string, cgroup: Cgroup): boolean {
  const sameShape = ({ name, shape }: { name: string; shape: MapShape }): boolean => {
    const fd = openPin(mapPin(pins, name));
    return fd !== undefined && JSON.stringify(withFd(fd, mapShape)) === JSON.stringify(shape);
  };
  return (
    object.programs.every((program) => attachedTo(pins, program) === cgroup.id) &&
    readPins(pins)?.programs.length === object.programs.length &&
    object.maps.every(sameShape)
  );
}

/** The ordinary way: everything new, in a staging directory. Returns whether it had to mount the BPF file system. */
function install(
  image: Buffer,
  pins: string,
  cgroup: Cgroup,
  objectSha256: Buffer,
  madeBefore: number,
): boolean {
  const staging = pins + STAGING;
  const undo: (() => void)[] = [];
  try {
    const mounted = ensureBpffs(pins);
    if (mounted) undo.unshift(unmountBpffs);
    const object = BpfObject.load(image);
    try {
      const made = makeParents(pins);
      undo.unshift(() => removeParents(pins, made));
      mkdirSync(staging, { mode: 0o755 });
      undo.unshift(() => removePins(staging));
      const installation = {
        objectSha256,
        cgroupId: cgroup.id,
        madeParents: made + madeBefore,
      };
      pinAll(object, staging, cgroup, installation);
      removePins(pins);
      renameSync(staging, pins);
      return mounted;
    } finally {
      object.close();
    }
  } catch (error) {
    for (const step of undo) step();
    throw error;
  }
}

function pinAll(object: BpfObject, staging: string, cgroup: Cgroup, installation: Installation): void {
  // The record of what else to undo comes first: "down" after a kill -9 needs it.
  const maps = object.maps().sort((a, b) => Number(b.name === INSTALL_MAP) - Number(a.name === INSTALL_MAP));
  for (const map of maps) {
    if (map.name === INSTALL_MAP) writeInstallation(map.fd, installation);
    map.pin(mapPin(staging, map.name));
  }
  const directory = openSync(cgroup.path, 'r');
  try {
    for (const program of object.programs()) program.attachAndPin(directory, linkPin(staging, program.name));
  } finally {
    closeSync(directory);
  }
}

/**
 * A newer object that corresponds to what is loaded takes over the maps, and its programs take the places of the old ones,
 * each at one stroke. What fails on the way is undone.
 */
function updateInPlace(image: Buffer, pins: string): void {
  const fds: number[] = [];
  const open = (path: string): number => {
    const fd = openPin(path);
    if (fd === undefined)
      throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT', { detail: `${path} vanished` });
    fds.push(fd);
    return fd;
  };
  const undo: (() => void)[] = [];
  let object: BpfObject | undefined;
  try {
    object = BpfObject.load(image, (unloaded) => {
      for (const map of unloaded.maps()) map.reuse(open(mapPin(pins, map.name)));
    });
    for (const program of object.programs()) {
      const link = open(linkPin(pins, program.name));
      const old = programFdById(cgroupLink(link).programId);
      fds.push(old);
      updateLink(link, program.fd);
      undo.unshift(() => updateLink(link, old));
    }
  } catch (error) {
    for (const step of undo) step();
    throw error;
  } finally {
    object?.close();
    for (const fd of fds) close(fd);
  }
}
