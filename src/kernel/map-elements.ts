/**
 * The elements of BPF maps. Keys and values have the sizes that their map has, see `struct`s of the same names in
 * bpf/eno_state.h.
 */
import koffi from 'koffi';
import { check, lib, mapShape } from './libbpf.js';
import { ENOENT } from './libc.js';

/** Key and value on their way to the kernel, or back: an address is passed on at a fraction of what an array costs. */
const KEY_ROOM = 256;
const VALUE_ROOM = 4096;
const element = new Uint8Array(KEY_ROOM + VALUE_ROOM);
const elementKey = element.subarray(0, KEY_ROOM);
const elementValue = element.subarray(KEY_ROOM);
const keyAt = Number(koffi.address(element));
const valueAt = keyAt + KEY_ROOM;

/** Makes or replaces. @throws ERR_TCPCRYPT_SYSTEM (E2BIG: the map is full), as all others here */
export function updateElement(mapFd: number, key: Uint8Array, value: Uint8Array): void {
  elementKey.set(key);
  elementValue.set(value);
  check('bpf_map_update_elem', lib().elementUpdate(mapFd, keyAt, valueAt, 0));
}

/** Undefined when there is no such element. */
export function lookupElement(mapFd: number, key: Uint8Array, valueSize: number): Buffer | undefined {
  const value = Buffer.alloc(valueSize);
  return lookupInto(mapFd, key, value) ? value : undefined;
}

/** As {@link lookupElement}, into memory of the caller's; false when there is no such element. */
export function lookupInto(mapFd: number, key: Uint8Array, value: Uint8Array): boolean {
  prepare(key, value);
  return found('bpf_map_lookup_elem', lib().elementLookup(mapFd, keyAt, valueAt), value);
}

/** No error when there is no such element. */
export function deleteElement(mapFd: number, key: Uint8Array): void {
  elementKey.set(key);
  const result = lib().elementDelete(mapFd, keyAt);
  if (result !== -ENOENT) check('bpf_map_delete_elem', result);
}

/** Looks up, into memory of the caller's, and deletes at one stroke; false when there was no such element. */
export function takeInto(mapFd: number, key: Uint8Array, value: Uint8Array): boolean {
  prepare(key, value);
  return found('bpf_map_lookup_and_delete_elem', lib().elementTake(mapFd, keyAt, valueAt), value);
}

/** The kernel writes a whole value of the map, whatever there is room for. */
function prepare(key: Uint8Array, value: Uint8Array): void {
  if (value.length > VALUE_ROOM) throw new RangeError('no room for such values');
  elementKey.set(key);
}

function found(call: string, result: number, value: Uint8Array): boolean {
  if (result === -ENOENT) return false;
  check(call, result);
  value.set(elementValue.subarray(0, value.length));
  return true;
}

/** All keys of a map. Where others change it at the same time, some may be missed; none comes for ever. */
export function* keysOf(mapFd: number, keySize: number): Generator<Buffer> {
  let previous: Buffer | null = null;
  for (let left = mapShape(mapFd).maxEntries; left > 0; left--) {
    const key = Buffer.alloc(keySize);
    const result = lib().nextKey(mapFd, previous, key);
    if (result === -ENOENT) return;
    check('bpf_map_get_next_key', result);
    yield key;
    previous = key;
  }
}
