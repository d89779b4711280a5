/**
 * Loading the kernel part and taking it out again. Root only.
 *
 * `up` either succeeds as a whole or leaves nothing: it works in a staging directory beside the pins, and the
 * last step renames it. `down` is its exact inverse, also of one that was killed half way.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TcpcryptError } from '../errors.js';
import { type Cgroup, findCgroup } from './cgroup.js';
import { BpfObject, cgroupLink, mapShape, openPin, programFdById, updateLink, withFd } from './libbpf.js';
import {
  attachedTo,
  defaultPins,
  ensureBpffs,
  type Installation,
  linkPin,
  makeParents,
  mapPin,
  readPins,
  removeParents,
  removePins,
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
  const report = (action: UpReport['action'], mountedBpffs: boolean): UpReport => ({
    action,
    cgroup: cgroup.path,
    pins,
    objectSha256: objectSha256.toString('hex'),
    mountedBpffs,
  });

  removePins(pins + STAGING); // of an "up" that was killed
  const found = readPins(pins);
  const present = found?.installation;
  if (present !== undefined && isWhole(pins, found?.links ?? [], cgroup)) {
    if (present.objectSha256.equals(objectSha256)) return report('unchanged', present.mountedBpffs);
    if (updateInPlace(image, pins, { ...present, objectSha256 }))
      return report('updated', present.mountedBpffs);
  }
  const mountedBpffs = install(image, pins, cgroup, objectSha256, present);
  return report(found === undefined ? 'loaded' : 'replaced', mountedBpffs);
}

/** Takes the kernel part out: every program, map, pin and directory, and the mount, that {@link up} made. */
export function down(options: { readonly pins?: string } = {}): DownReport {
  requireRoot();
  const pins = resolve(options.pins ?? defaultPins());
  const staging = pins + STAGING;
  const found = readPins(pins) ?? readPins(staging);
  if (found === undefined) return { action: 'nothing', pins, unmountedBpffs: false };
  const { mountedBpffs = false, madeParents = 0 } = found.installation ?? {};
  removePins(staging);
  removePins(pins);
  removeParents(pins, madeParents);
  if (mountedBpffs) unmountBpffs();
  return { action: 'removed', pins, unmountedBpffs: mountedBpffs };
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

/** Is every program still attached, to this cgroup? */
function isWhole(pins: string, programs: readonly string[], cgroup: Cgroup): boolean {
  return programs.length > 0 && programs.every((program) => attachedTo(pins, program) === cgroup.id);
}

/** The ordinary way: everything new, in a staging directory. Returns whether the BPF file system is (still) ours to unmount. */
function install(
  image: Buffer,
  pins: string,
  cgroup: Cgroup,
  objectSha256: Buffer,
  replaced: Installation | undefined,
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
      undo.unshift(() => removePins(staging));
      mkdirSync(staging, { mode: 0o755 });
      const installation = {
        objectSha256,
        cgroupId: cgroup.id,
        mountedBpffs: mounted || (replaced?.mountedBpffs ?? false),
        madeParents: made + (replaced?.madeParents ?? 0),
      };
      pinAll(object, staging, cgroup, installation);
      removePins(pins);
      renameSync(staging, pins);
      return installation.mountedBpffs;
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
  const maps = object
    .maps()
    .sort((a, b) => Number(b.name === 'eno_install') - Number(a.name === 'eno_install'));
  for (const map of maps) {
    if (map.name === 'eno_install') writeInstallation(map.fd, installation);
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
 * A newer object whose maps have the same shape takes over the maps, and its programs take the places of the old ones,
 * each at one stroke. Returns false, with nothing changed, when the objects do not correspond.
 */
function updateInPlace(image: Buffer, pins: string, installation: Installation): boolean {
  const fds: number[] = [];
  const openOurs = (path: string): number | undefined => {
    const fd = openPin(path);
    if (fd !== undefined) fds.push(fd);
    return fd;
  };
  let corresponds = true;
  const object = BpfObject.load(image, (unloaded) => {
    const pairs = unloaded.maps().map((map) => ({ map, fd: openOurs(mapPin(pins, map.name)) }));
    corresponds = pairs.every(({ map, fd }) => fd !== undefined && sameShape(map.shape, mapShape(fd)));
    if (corresponds) for (const { map, fd } of pairs) if (fd !== undefined) map.reuse(fd);
  });
  const undo: (() => void)[] = [];
  try {
    const links = object
      .programs()
      .map((program) => ({ program, fd: openOurs(linkPin(pins, program.name)) }));
    if (!corresponds || links.length !== readPins(pins)?.links.length) return false;
    if (links.some(({ fd }) => fd === undefined)) return false;
    for (const { program, fd } of links) {
      if (fd === undefined) continue;
      const old = programFdById(cgroupLink(fd).programId);
      fds.push(old);
      updateLink(fd, program.fd);
      undo.unshift(() => updateLink(fd, old));
    }
    const record = openPin(mapPin(pins, 'eno_install'));
    if (record !== undefined) withFd(record, () => writeInstallation(record, installation));
    return true;
  } catch (error) {
    for (const step of undo) step();
    throw error;
  } finally {
    object.close();
    for (const fd of fds) closeSync(fd);
  }
}

const sameShape = (a: object, b: object): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Whether pins exist there: something is, or was, installed. */
export const isInstalled = (pins: string = defaultPins()): boolean =>
  existsSync(dirname(pins)) && existsSync(pins);
