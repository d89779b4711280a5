/**
 * What applications wish that leave encryption to the daemon: the options of include/tcp_eno.h that they set on their own
 * sockets (bpf/eno_wish.h). Root only.
 */
import type { Tuple } from './carried.js';
import { tupleKey } from './carried.js';
import { DAEMON_MAP_SIZES, type MapSource, openDaemonMap } from './daemon-maps.js';
import { close } from './libc.js';
import { deleteElement, lookupElement, lookupInto, updateElement } from './map-elements.js';
import { addressBytes } from './sockaddr.js';
import { netnsCookie, writePeerKey } from './true-peer.js';

/**
 * `struct eno_tuple`, `struct eno_peer_key`, `struct eno_settings` and, in it, `struct eno_wish`; `struct
 * eno_defaults` (bpf/eno_state.h).
 */
const [PORT_KEY_SIZE, SETTINGS_SIZE] = DAEMON_MAP_SIZES.eno_ports;
const ADDRESS_IN_PORT_KEY = 8;
const WISH_IN_SETTINGS = 168;
const [, WISH_SIZE] = DAEMON_MAP_SIZES.eno_wishes;
const TEPS = 12;
const ACONF = 20;
const BCONF = 28;
const [, DEFAULTS_SIZE] = DAEMON_MAP_SIZES.eno_defaults;
const MAX_TEPS = 8;
const MAX_CIPHERS = 4;
const GLOBAL_B = 1;
const GLOBAL_A = 2;

/** Where a listener may be bound that an address leads to; undefined: at that address itself. */
const ANY_OF_4 = [undefined, addressBytes('0.0.0.0'), addressBytes('::')];
const ANY_OF_6 = [undefined, addressBytes('::')];

export interface Wish {
  /** TCP_ENO_ENABLED; undefined: as the system says. */
  readonly enabled: boolean | undefined;
  /** TCP_ENO_SELF_GOPT. */
  readonly aware: boolean;
  readonly roleB: boolean;
  /** TCP_ENO_AA_MANDATORY. */
  readonly mandatoryAware: boolean;
  /** TCP_ENO_TEP_MANDATORY. */
  readonly mandatory: boolean;
  /** TCP_ENO_TEPS, most preferred first. */
  readonly teps: readonly number[] | undefined;
  /** TCP_CRYPT_ACONF. */
  readonly ciphersA: readonly number[] | undefined;
  /** TCP_CRYPT_BCONF, most preferred first. */
  readonly ciphersB: readonly number[] | undefined;
  /** TCP_CRYPT_CACHE_FLUSH: resume no earlier session. */
  readonly noResume: boolean;
}

export class Wishes {
  readonly #connections: number;
  readonly #listeners: number;
  readonly #defaults: number;
  readonly #netns = netnsCookie();
  /** Of the call in progress. */
  readonly #portKey = Buffer.alloc(PORT_KEY_SIZE);
  readonly #settings = Buffer.alloc(SETTINGS_SIZE);

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(maps: MapSource) {
    this.#connections = openDaemonMap(maps, 'eno_wishes');
    this.#listeners = openDaemonMap(maps, 'eno_ports');
    this.#defaults = openDaemonMap(maps, 'eno_defaults');
  }

  /** Of an application whose SYN is held. */
  ofConnection(tuple: Tuple): Wish | undefined {
    const value = lookupElement(this.#connections, tupleKey(this.#netns, tuple), WISH_SIZE);
    return value === undefined ? undefined : wish(value);
  }

  /** Of the server that listens there: on this address, or on any. */
  ofListener(address: string, port: number): Wish | undefined {
    const key = this.#portKey;
    const settings = this.#settings;
    writePeerKey(key, this.#netns, address, port);
    for (const any of address.includes(':') ? ANY_OF_6 : ANY_OF_4) {
      any?.copy(key, ADDRESS_IN_PORT_KEY);
      if (lookupInto(this.#listeners, key, settings))
        return wish(settings.subarray(WISH_IN_SETTINGS, WISH_IN_SETTINGS + WISH_SIZE));
    }
    return undefined;
  }

  /** What applications of this network namespace read where they have set nothing; most preferred first. */
  setDefaults(teps: readonly number[], ciphers: readonly number[]): void {
    const value = Buffer.alloc(DEFAULTS_SIZE);
    const [listedTeps, listedCiphers] = [teps.slice(0, MAX_TEPS), ciphers.slice(0, MAX_CIPHERS)];
    value.writeUInt8(listedTeps.length, 0);
    value.writeUInt8(listedCiphers.length * 2, 1);
    value.set([...listedTeps].reverse(), 2);
    listedCiphers.reverse().forEach((id, i) => {
      value.writeUInt16BE(id, 2 + MAX_TEPS + 2 * i);
    });
    updateElement(this.#defaults, this.#namespaceKey, value);
  }

  clearDefaults(): void {
    deleteElement(this.#defaults, this.#namespaceKey);
  }

  get #namespaceKey(): Buffer {
    const key = Buffer.alloc(8);
    key.writeBigUInt64LE(this.#netns);
    return key;
  }

  close(): void {
    close(this.#connections);
    close(this.#listeners);
    close(this.#defaults);
  }
}

/** `struct eno_wish`. */
function wish(value: Buffer): Wish {
  const gopt = value.readUInt8(3);
  const teps = value.subarray(TEPS, TEPS + value.readUInt8(8));
  return {
    enabled: value.readUInt8(2) === 0 ? undefined : value.readUInt8(1) === 2,
    aware: (gopt & GLOBAL_A) !== 0,
    roleB: (gopt & GLOBAL_B) !== 0,
    mandatoryAware: value.readUInt8(4) !== 0,
    mandatory: value.readUInt8(5) !== 0,
    noResume: value.readUInt8(6) !== 0,
    teps: value.readUInt8(7) === 0 ? undefined : [...teps].map((tep) => tep & 0x7f).reverse(),
    ciphersA: identifiers(value, ACONF, value.readUInt8(9)),
    ciphersB: identifiers(value, BCONF, value.readUInt8(10)),
  };
}

/** Two bytes each, in increasing preference. */
function identifiers(value: Buffer, offset: number, length: number): number[] | undefined {
  if (length === 0) return undefined;
  const found: number[] = [];
  for (let i = 0; i < length; i += 2) found.unshift(value.readUInt16BE(offset + i));
  return found;
}
