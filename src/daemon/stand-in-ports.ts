/**
 * Source ports for connections to local servers in a far client's name. The client's own port cannot be used:
 * that 4-tuple belongs to the connection on the wire. Nor may one that the client is about to use, so they come
 * from below the ranges in which operating systems choose ports for clients (Linux from 32768, RFC 6335 from 49152).
 */
import { TcpcryptError } from '../errors.js';
import * as libc from '../kernel/libc.js';
import { sockaddr } from '../kernel/sockaddr.js';

const FIRST = 1024;
const LAST = 32_767;
/** How many taken ports to skip before giving up. */
const ATTEMPTS = 1024;

export class StandInPorts {
  #next = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1));
  /**
   * "address port". SO_REUSEADDR, without which ports in TIME_WAIT could not be used again, lets bind(2) give out
   * a port twice.
   */
  readonly #taken = new Set<string>();

  get taken(): number {
    return this.#taken.size;
  }

  /** Binds `fd` (with IP_TRANSPARENT and SO_REUSEADDR) to a free port of `address`. @returns the port */
  take(fd: number, address: string): number {
    for (let i = 0; i < ATTEMPTS; i++) {
      const port = this.#next;
      this.#next = port === LAST ? FIRST : port + 1;
      if (this.#taken.has(`${address} ${port}`)) continue;
      const result = libc.tryBind(fd, sockaddr(address, port));
      if (result === 0) {
        this.#taken.add(`${address} ${port}`);
        return port;
      }
      if (result !== -libc.EADDRINUSE) throw libc.systemError('bind', -result);
    }
    throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `no free port in the name of ${address}` });
  }

  /** The connection is closed. */
  release(address: string, port: number): void {
    this.#taken.delete(`${address} ${port}`);
  }
}
