/**
 * The daemon's word to getsockopt(): applications whose connections it carries read the session ID, and how ENO came
 * out, on their own sockets (bpf/eno_carried.h). Root only.
 *
 *     entry = carried.publish(tuple, 'active', state) before the application can see its connection
 *     entry.secure({ sessionId, cipher })             once the key exchange is over
 *     entry.close()                                   when the connection has ended
 */
import { TransientMap } from '../transient-map.js';
import { type MapSource, openDaemonMap } from './daemon-maps.js';
import { TCP_ENO_SESSID_MAX, TCP_ENO_STATE_SIZE } from './eno-socket.js';
import { close } from './libc.js';
import { deleteElement, keysOf, lookupElement, lookupInto, takeInto, updateElement } from './map-elements.js';
import { addressText, writeAddress } from './sockaddr.js';
import { netnsCookie, writeNetns } from './true-peer.js';

/** `struct eno_tuple` and `struct eno_carried` (bpf/eno_state.h). */
const KEY_SIZE = 48;
const VALUE_SIZE = 176;
const STATE = 16;
const SESSION_ID = STATE + TCP_ENO_STATE_SIZE;
/** In `struct tcp_eno_state`. */
const SESSION_ID_LENGTH = STATE + 8;
const CIPHER = STATE + 10;
const FLUSH = 13;
const OPENER = { active: 1, passive: 2 } as const;
/** Milliseconds; tuned by us. */
const FLUSH_INTERVAL = 250;
/** The only key of an array. */
const FIRST = Buffer.alloc(4);
/** What the call in progress finds. */
const found = Buffer.alloc(VALUE_SIZE);

export interface TupleEnd {
  /** A literal address. */
  readonly address: string;
  readonly port: number;
}

/** A connection as the application's socket sees it. */
export interface Tuple {
  readonly local: TupleEnd;
  readonly remote: TupleEnd;
}

/** What the key exchange came to. */
export interface Secured {
  readonly sessionId: Uint8Array;
  /** AEAD identifier. */
  readonly cipher: number;
}

/** What an application can ask about one carried connection. */
export interface CarriedFacts {
  readonly opener: 'active' | 'passive';
  /** As TCP_ENO_STATE says. */
  readonly state: Buffer;
  /** Undefined while the key exchange goes on. */
  readonly sessionId: Buffer | undefined;
}

export class CarriedConnections {
  readonly #map: number;
  /** Counts the wishes to flush. */
  readonly #flushes: number;
  #flushesSeen: bigint;
  #watch: NodeJS.Timeout | undefined;
  readonly #netns = netnsCookie();
  /** Whose the entry of a tuple is: what ends late must not take away what a later connection put there. */
  readonly #owners = new TransientMap<string, CarriedEntry>();

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(maps: MapSource) {
    this.#map = openDaemonMap(maps, 'eno_carried');
    this.#flushes = openDaemonMap(maps, 'eno_flushes');
    this.#flushesSeen = this.#countFlushes();
  }

  /**
   * From now on the application's socket tells what the negotiation came to, and that the key exchange goes on.
   * @param opener what the application's socket is: connected by it, or to be accepted
   * @param state   of the daemon's own socket, connected to the far host: see enoStateBytes()
   * @param secured where the key exchange is over already, see {@link CarriedEntry.secure}
   */
  publish(tuple: Tuple, opener: 'active' | 'passive', state: Uint8Array, secured?: Secured): CarriedEntry {
    const value = Buffer.allocUnsafe(VALUE_SIZE).fill(0); // from Node's pool, as alloc() is not
    value.writeBigUInt64LE(process.hrtime.bigint());
    value.writeUInt32LE(OPENER[opener], 8);
    value.set(state.subarray(0, TCP_ENO_STATE_SIZE), STATE);
    value.writeUInt8(0, SESSION_ID_LENGTH);
    const entry = new CarriedEntry(this.#map, tupleKey(this.#netns, tuple), value, this.#owners);
    if (secured === undefined) entry.put();
    else entry.secure(secured);
    entry.own();
    return entry;
  }

  /** What is published about a connection in this network namespace. */
  find(tuple: Tuple): CarriedFacts | undefined {
    const value = lookupElement(this.#map, tupleKey(this.#netns, tuple), VALUE_SIZE);
    return value === undefined ? undefined : facts(value);
  }

  /** All connections of this network namespace that something is published about. */
  *all(): Generator<Tuple> {
    for (const key of keysOf(this.#map, KEY_SIZE)) {
      if (key.readBigUInt64LE() === this.#netns) yield tupleOf(key);
    }
  }

  /** Removes what a daemon that was killed left in this network namespace, as far as it concerns `hosts`. */
  removeLeftovers(hosts: (remoteAddress: string) => boolean = () => true): void {
    for (const key of [...keysOf(this.#map, KEY_SIZE)]) {
      const isOurs = this.#owners.has(key.toString('latin1'));
      if (key.readBigUInt64LE() === this.#netns && !isOurs && hosts(tupleOf(key).remote.address))
        deleteElement(this.#map, key);
    }
  }

  /** From now on, `flush` of entries is called soon after an application has set TCP_CRYPT_CACHE_FLUSH. */
  watchFlushes(): void {
    this.#watch ??= setInterval(() => this.#deliverFlushes(), FLUSH_INTERVAL).unref();
  }

  close(): void {
    for (const entry of [...this.#owners.values()]) entry.close();
    clearInterval(this.#watch);
    close(this.#map);
    close(this.#flushes);
  }

  /** A single system call when nobody has set anything. */
  #deliverFlushes(): void {
    const count = this.#countFlushes();
    if (count === this.#flushesSeen) return;
    this.#flushesSeen = count;
    for (const entry of this.#owners.values()) if (entry.takeFlush()) entry.flush?.();
  }

  #countFlushes(): bigint {
    return lookupElement(this.#flushes, FIRST, 8)?.readBigUInt64LE() ?? 0n;
  }
}

export class CarriedEntry {
  /** What to do when the application asks that nothing may resume this connection, nor what it resumed. */
  flush: (() => void) | undefined;
  readonly #map: number;
  readonly #key: Buffer;
  readonly #value: Buffer;
  readonly #name: string;
  readonly #owners: TransientMap<string, CarriedEntry>;
  #flushed = false;

  /** @internal {@link CarriedConnections.publish} makes these. */
  constructor(map: number, key: Buffer, value: Buffer, owners: TransientMap<string, CarriedEntry>) {
    this.#map = map;
    this.#key = key;
    this.#value = value;
    this.#name = key.toString('latin1');
    this.#owners = owners;
  }

  /** @internal */
  put(): void {
    updateElement(this.#map, this.#key, this.#value);
  }

  /** @internal The tuple is this connection's from now on. */
  own(): void {
    this.#owners.set(this.#name, this);
  }

  /** The key exchange is over. */
  secure({ sessionId, cipher }: Secured): void {
    this.#value.writeUInt16LE(cipher, CIPHER);
    this.#value.set(sessionId.subarray(0, TCP_ENO_SESSID_MAX), SESSION_ID);
    this.#value.writeUInt8(sessionId.length, SESSION_ID_LENGTH);
    this.put();
  }

  /** @internal */
  takeFlush(): boolean {
    return lookupInto(this.#map, this.#key, found) && this.#wantsFlush(found);
  }

  /** Forgets the connection; a socket that was told its session ID keeps it. Calling it again does no harm. */
  close(): void {
    const isOurs = this.#owners.get(this.#name) === this && this.#owners.delete(this.#name);
    if (isOurs && takeInto(this.#map, this.#key, found) && this.#wantsFlush(found)) this.flush?.();
  }

  #wantsFlush(value: Buffer): boolean {
    if (this.#flushed || value[FLUSH] !== 1) return false;
    this.#flushed = true;
    return true;
  }
}

function facts(value: Buffer): CarriedFacts {
  const length = value.readUInt8(SESSION_ID_LENGTH);
  return {
    opener: value.readUInt32LE(8) === OPENER.active ? 'active' : 'passive',
    state: value.subarray(STATE, SESSION_ID),
    sessionId: length === 0 ? undefined : value.subarray(SESSION_ID, SESSION_ID + length),
  };
}

/** `struct eno_tuple`. */
export function tupleKey(netns: bigint, { local, remote }: Tuple): Buffer {
  const key = Buffer.allocUnsafe(KEY_SIZE);
  writeNetns(key, netns);
  writeAddress(local.address, key, 8);
  writeAddress(remote.address, key, 24);
  key.writeUInt16BE(local.port, 40);
  key.writeUInt16BE(remote.port, 42);
  key.fill(0, 44);
  return key;
}

const tupleOf = (key: Buffer): Tuple => ({
  local: { address: addressText(key.subarray(8, 24)), port: key.readUInt16BE(40) },
  remote: { address: addressText(key.subarray(24, 40)), port: key.readUInt16BE(42) },
});
