/**
 * The daemon's word to getpeername(): a server behind the relay shall see its real client (bpf/eno_true_peer.h).
 * Root only.
 */

import { type MapSource, openDaemonMap } from './daemon-maps.js';
import {
  AF_INET,
  close,
  getsockopt,
  SO_NETNS_COOKIE,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
  socket,
} from './libc.js';
import { deleteElement, lookupElement, updateElement } from './map-elements.js';
import { addressText, type SocketAddress, writeAddress } from './sockaddr.js';

/** `struct eno_peer_key` and `struct eno_peer` (bpf/eno_state.h). */
const KEY_SIZE = 32;
const VALUE_SIZE = 24;

export class TruePeers {
  readonly #map: number;
  /** Of the call in progress: the kernel has copied them when it returns. */
  readonly #key = Buffer.alloc(KEY_SIZE);
  readonly #value = Buffer.alloc(VALUE_SIZE);

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(maps: MapSource) {
    this.#map = openDaemonMap(maps, 'eno_true_peers');
  }

  /**
   * From now on a server in the network namespace `netnsCookie` whose peer is `localHost`:`localPort` (the daemon's end of
   * the connection, as the server sees it) is told `realHost`:`realPort` instead.
   */
  set(netnsCookie: bigint, localHost: string, localPort: number, realHost: string, realPort: number): void {
    writeAddress(realHost, this.#value, 0);
    this.#value.writeUInt16BE(realPort, 16);
    updateElement(this.#map, this.#keyOf(netnsCookie, localHost, localPort), this.#value);
  }

  /** What was {@link set}. */
  get(netnsCookie: bigint, localHost: string, localPort: number): SocketAddress | undefined {
    const value = lookupElement(this.#map, this.#keyOf(netnsCookie, localHost, localPort), VALUE_SIZE);
    return value && { address: addressText(value.subarray(0, 16)), port: value.readUInt16BE(16) };
  }

  /** Forgets it again; no error when it is not there. */
  delete(netnsCookie: bigint, localHost: string, localPort: number): void {
    deleteElement(this.#map, this.#keyOf(netnsCookie, localHost, localPort));
  }

  close(): void {
    close(this.#map);
  }

  #keyOf(netnsCookie: bigint, host: string, port: number): Buffer {
    writePeerKey(this.#key, netnsCookie, host, port);
    return this.#key;
  }
}

/** Mostly the same one: numbers of 64 bits are slow. */
let netns = 0n;
const netnsBytes = Buffer.alloc(8);

/** The first eight bytes of the keys of all maps. */
export function writeNetns(key: Buffer, netnsCookie: bigint): void {
  if (netnsCookie !== netns) {
    netnsBytes.writeBigUInt64LE(netnsCookie);
    netns = netnsCookie;
  }
  key.set(netnsBytes);
}

/** `struct eno_peer_key`, 32 bytes. */
export function writePeerKey(key: Buffer, netnsCookie: bigint, host: string, port: number): void {
  writeNetns(key, netnsCookie);
  writeAddress(host, key, 8);
  key.writeUInt16BE(port, 24);
}

/** The number of the network namespace that this process is in: socket(7), SO_NETNS_COOKIE. */
export function netnsCookie(): bigint {
  const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  try {
    return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, 8).readBigUInt64LE();
  } finally {
    close(fd);
  }
}
