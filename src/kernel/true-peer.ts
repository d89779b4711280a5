/**
 * The daemon's word to getpeername(): a server behind the relay shall see its real client (bpf/eno_true_peer.h).
 * Root only.
 */

import { type MapSource, openDaemonMap } from './daemon-maps.js';
import { deleteElement, lookupElement, updateElement } from './libbpf.js';
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
import { addressBytes, addressText, type SocketAddress } from './sockaddr.js';

/** `struct eno_peer_key` and `struct eno_peer` (bpf/eno_state.h). */
const KEY_SIZE = 32;
const VALUE_SIZE = 24;

export class TruePeers {
  readonly #map: number;

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(maps: MapSource) {
    this.#map = openDaemonMap(maps, 'eno_true_peers');
  }

  /**
   * From now on a server in the network namespace `netnsCookie` whose peer is `localHost`:`localPort` (the daemon's end of
   * the connection, as the server sees it) is told `realHost`:`realPort` instead.
   */
  set(netnsCookie: bigint, localHost: string, localPort: number, realHost: string, realPort: number): void {
    const value = Buffer.alloc(VALUE_SIZE);
    addressBytes(realHost).copy(value);
    value.writeUInt16BE(realPort, 16);
    updateElement(this.#map, peerKey(netnsCookie, localHost, localPort), value);
  }

  /** What was {@link set}. */
  get(netnsCookie: bigint, localHost: string, localPort: number): SocketAddress | undefined {
    const value = lookupElement(this.#map, peerKey(netnsCookie, localHost, localPort), VALUE_SIZE);
    return value && { address: addressText(value.subarray(0, 16)), port: value.readUInt16BE(16) };
  }

  /** Forgets it again; no error when it is not there. */
  delete(netnsCookie: bigint, localHost: string, localPort: number): void {
    deleteElement(this.#map, peerKey(netnsCookie, localHost, localPort));
  }

  close(): void {
    close(this.#map);
  }
}

/** `struct eno_peer_key`. */
function peerKey(netnsCookie: bigint, host: string, port: number): Buffer {
  const key = Buffer.alloc(KEY_SIZE);
  key.writeBigUInt64LE(netnsCookie);
  addressBytes(host).copy(key, 8);
  key.writeUInt16BE(port, 24);
  return key;
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
