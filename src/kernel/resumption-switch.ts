/**
 * The administrator's word on resumption for the whole machine (RFC 8548 §3.5, TC-29): bpf/eno_resume.h heeds it for
 * listeners, session caches for everything else. Root only.
 */
import { TcpcryptError } from '../errors.js';
import { openMap, withFd } from './libbpf.js';
import { lookupElement, updateElement } from './map-elements.js';
import { mapPin } from './pins.js';

/** `struct eno_resumption` (bpf/eno_state.h). */
const VALUE_SIZE = 8;
const FIRST = Buffer.alloc(4);

export interface ResumptionSwitch {
  /** Sessions may be resumed. */
  readonly allowed: boolean;
  /** How often all sessions were forgotten. */
  readonly generation: number;
}

export interface ResumptionOrder {
  readonly allowed?: boolean;
  /** Forget all sessions. Those that refuse resumption do so as well. */
  readonly flush?: boolean;
}

/**
 * Carries the order out, and tells how it is then.
 * @param pins the directory that "tcpcrypt up" reported
 * @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PERMISSION
 */
export function switchResumption(
  pins: string,
  { allowed, flush = false }: ResumptionOrder,
): ResumptionSwitch {
  if (process.geteuid?.() !== 0) throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION');
  const map = openMap(mapPin(pins, 'eno_resumption'), FIRST.length, VALUE_SIZE);
  if (map === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT', { detail: `no pins in ${pins}` });
  return withFd(map, () => {
    const value = lookupElement(map, FIRST, VALUE_SIZE) ?? Buffer.alloc(VALUE_SIZE);
    const forget = flush || allowed === false;
    value.writeUInt32LE((value.readUInt32LE(0) + (forget ? 1 : 0)) >>> 0, 0);
    if (allowed !== undefined) value.writeUInt32LE(allowed ? 0 : 1, 4);
    if (forget || allowed !== undefined) updateElement(map, FIRST, value);
    return { allowed: value.readUInt32LE(4) === 0, generation: value.readUInt32LE(0) };
  });
}
