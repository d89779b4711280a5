/**
 * The pinned BPF maps that a daemon works with. Only root can open them; who has them open may use them, also a process
 * that has inherited the descriptors.
 */
import { TcpcryptError } from '../errors.js';
import { openMap } from './libbpf.js';
import { close, dup } from './libc.js';
import { keysOf, lookupInto, updateElement } from './map-elements.js';
import { mapPin } from './pins.js';

/** Sizes of key and value in bytes: bpf/eno_state.h. That they are so is checked when a map is opened. */
export const DAEMON_MAP_SIZES = {
  eno_true_peers: [32, 24],
  eno_carried: [48, 176],
  eno_flushes: [4, 8],
  eno_wishes: [48, 36],
  eno_ports: [32, 264],
  eno_defaults: [8, 18],
  eno_sockets: [4, 432],
  eno_daemon_listeners: [8, 264],
} as const;
export type DaemonMap = keyof typeof DAEMON_MAP_SIZES;
const NAMES = Object.keys(DAEMON_MAP_SIZES) as DaemonMap[];

/** The directory that "tcpcrypt up" reported, or descriptors. */
export type MapSource = string | Readonly<Record<DaemonMap, number>>;

/**
 * @returns a descriptor that the caller owns; descriptors that were inherited are given away once
 * @throws ERR_TCPCRYPT_KERNEL_ABSENT; ERR_TCPCRYPT_KERNEL_FEATURE when it is of another version
 */
export function openDaemonMap(source: MapSource, name: DaemonMap): number {
  if (typeof source !== 'string') return source[name];
  const [key, value] = DAEMON_MAP_SIZES[name];
  const map = openMap(mapPin(source, name), key, value);
  if (map === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT', { detail: `no pins in ${source}` });
  return map;
}

/** All of them, in an order that {@link openMaps} knows; the caller owns the descriptors. */
export function openDaemonMaps(pins: string): number[] {
  const open: number[] = [];
  try {
    for (const name of NAMES) open.push(openDaemonMap(pins, name));
    return open;
  } catch (error) {
    for (const fd of open) close(fd);
    throw error;
  }
}

/** What {@link openDaemonMaps} returned, in this process or in one that has inherited it. */
export const openMaps = (descriptors: readonly number[]): MapSource =>
  Object.fromEntries(NAMES.map((name, index) => [name, descriptors[index] ?? -1])) as Record<
    DaemonMap,
    number
  >;

/**
 * Elements that go over into the maps of another kernel part: what the daemon of a network namespace has put there itself.
 * Their keys begin with the cookie of the namespace.
 */
const TAKEN_OVER: readonly DaemonMap[] = ['eno_true_peers', 'eno_carried', 'eno_defaults'];

/** Copies what the daemon of this network namespace has put into the maps `from` to the maps `to`; both in the order of {@link openDaemonMaps}. */
export function takeOver(netnsCookie: bigint, from: readonly number[], to: readonly number[]): void {
  NAMES.forEach((name, index) => {
    const [old, fresh] = [from[index], to[index]];
    if (!TAKEN_OVER.includes(name) || old === undefined || fresh === undefined) return;
    const [keySize, valueSize] = DAEMON_MAP_SIZES[name];
    const value = Buffer.alloc(valueSize);
    for (const key of [...keysOf(old, keySize)])
      if (key.readBigUInt64LE() === netnsCookie && lookupInto(old, key, value))
        updateElement(fresh, key, value);
  });
}

/** The descriptors stand for other maps from now on, wherever in this process they are used; the `fresh` ones are closed. */
export function exchangeMaps(descriptors: readonly number[], fresh: readonly number[]): void {
  descriptors.forEach((fd, index) => {
    const other = fresh[index];
    if (other !== undefined) dup(other, fd);
  });
  for (const fd of fresh) close(fd);
}
