/**
 * Listeners with ENO that the kernel part must not forget. Those of all users together are remembered in a map that has
 * room for so many (`eno_listeners`, bpf/eno_state.h): whoever opens as many pushes out others' that nobody connects to. The
 * daemon's are in a map of their own, where only who has that map open can put one.
 */
import { TcpcryptError } from '../errors.js';
import { DAEMON_MAP_SIZES, type MapSource, openDaemonMap } from './daemon-maps.js';
import { getsockopt, SO_COOKIE, SOL_SOCKET } from './libc.js';
import { lookupElement, updateElement } from './map-elements.js';

/** `struct eno_socket`, with `struct eno_settings` at its beginning. */
const [, SOCKET_SIZE] = DAEMON_MAP_SIZES.eno_sockets;
/** A socket cookie, and those settings. */
const [COOKIE_SIZE, SETTINGS_SIZE] = DAEMON_MAP_SIZES.eno_daemon_listeners;

export class KeptListeners {
  readonly #sockets: number;
  readonly #kept: number;

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(maps: MapSource) {
    this.#sockets = openDaemonMap(maps, 'eno_sockets');
    this.#kept = openDaemonMap(maps, 'eno_daemon_listeners');
  }

  /**
   * From now on until it is closed, which the kernel part notices only of what listens.
   * @param fd listens already
   * @throws ERR_TCPCRYPT_KERNEL_ABSENT when the kernel part knows nothing of it: another one was loaded
   */
  keep(fd: number): void {
    const key = Buffer.alloc(4);
    key.writeInt32LE(fd);
    const known = lookupElement(this.#sockets, key, SOCKET_SIZE);
    if (known === undefined)
      throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT', { detail: 'it does not know a listener' });
    const cookie = getsockopt(fd, SOL_SOCKET, SO_COOKIE, COOKIE_SIZE);
    updateElement(this.#kept, cookie, known.subarray(0, SETTINGS_SIZE));
  }
}
