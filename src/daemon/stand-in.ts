/**
 * Connections to local servers in far clients' names: from the client's address and a port that stands for the
 * client's own, which accept() and getpeername() of the server report.
 *
 *     standIn = standIns.open(client)       bound, not connected
 *     standIn.connect(server, connected)    mostly calls back before it returns
 *     standIn.onClose                       the port is free again
 *
 * connect(2) is called here, and not by Node: on one machine the connection is there when it returns, so there is nothing to
 * wait for.
 */
import type { Socket as TcpSocket } from 'node:net';
import * as libc from '../kernel/libc.js';
import { MARK } from '../kernel/packet-marks.js';
import { sockaddr } from '../kernel/sockaddr.js';
import { netnsCookie, type TruePeers } from '../kernel/true-peer.js';
import { adopt } from '../socket/adopt.js';
import { NO_LINGER } from '../socket/transport.js';
import { type Endpoint, familyOf } from './endpoint.js';
import { StandInPorts } from './stand-in-ports.js';
import { transparentSocket } from './transparent.js';

/**
 * Milliseconds until the next look at a server that has no room for one more connection at the moment: doubles. Many may
 * wait for one that accepts nobody.
 */
const FIRST_LOOK = 10;
const LAST_LOOK = 1_000;

export class StandIns {
  readonly #truePeers: TruePeers;
  readonly #netns = netnsCookie();
  readonly #ports = new StandInPorts();

  constructor(truePeers: TruePeers) {
    this.#truePeers = truePeers;
  }

  /** Ports that are taken. */
  get taken(): number {
    return this.#ports.taken;
  }

  /** @throws ERR_TCPCRYPT_SYSTEM */
  open(client: Endpoint): StandIn {
    const fd = transparentSocket(familyOf(client.address));
    try {
      libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_MARK, MARK.DAEMON_SOCKET | MARK.LOCAL_DELIVERY);
      libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_REUSEADDR, 1);
      libc.setsockopt(fd, libc.SOL_SOCKET, libc.SO_LINGER, NO_LINGER);
      libc.setsockopt(fd, libc.IPPROTO_TCP, libc.TCP_NODELAY, 1);
      const port = this.#ports.take(fd, client.address);
      try {
        this.#truePeers.set(this.#netns, client.address, port, client.address, client.port);
      } catch (error) {
        this.#ports.release(client.address, port);
        throw error;
      }
      return new StandIn(this, fd, client.address, port);
    } catch (error) {
      libc.close(fd);
      throw error;
    }
  }

  /** @internal */
  release(address: string, port: number): void {
    this.#ports.release(address, port);
    this.#truePeers.delete(this.#netns, address, port);
  }
}

export class StandIn {
  onClose: (() => void) | undefined;
  readonly port: number;
  readonly #standIns: StandIns;
  readonly #fd: number;
  readonly #address: string;

  /** @internal {@link StandIns.open} makes these. */
  constructor(standIns: StandIns, fd: number, address: string, port: number) {
    this.#standIns = standIns;
    this.#fd = fd;
    this.#address = address;
    this.port = port;
  }

  /** @param connected is given the connection, of which {@link closed} must be told; or why there is none, as -errno */
  connect(server: Endpoint, connected: (result: TcpSocket | number) => void): void {
    const address = sockaddr(server.address, server.port);
    const result = libc.tryConnect(this.#fd, address);
    if (result === 0 || result === -libc.EINPROGRESS) this.#look(address, connected);
    else this.#failed(result, connected);
  }

  /** The connection is closed. */
  closed(): void {
    this.#standIns.release(this.#address, this.port);
    this.onClose?.();
  }

  /** Asked a second time, connect(2) tells what has become of the first. */
  #look(address: Uint8Array, connected: (result: TcpSocket | number) => void, next = FIRST_LOOK): void {
    const result = libc.tryConnect(this.#fd, address);
    if (result === -libc.EALREADY)
      setTimeout(() => this.#look(address, connected, Math.min(2 * next, LAST_LOOK)), next);
    else if (result === 0 || result === -libc.EISCONN) connected(adopt(this.#fd));
    else this.#failed(result, connected);
  }

  #failed(result: number, connected: (result: TcpSocket | number) => void): void {
    libc.close(this.#fd);
    this.closed();
    connected(result);
  }
}
