/**
 * The daemon's hold on the kernel part. "tcpcrypt down" takes that away under a running daemon, "tcpcrypt up" puts another
 * one in its place, to which our listeners and maps mean nothing.
 *
 *   ours      ──▶ gone       nobody can encrypt: what is `private` is refused, all else plain. Our listeners close, so that
 *                            connections that come in go to their servers by themselves
 *   gone, ours ─▶ another    its maps are fetched and take the places of the old ones; our listeners are opened anew
 *   another   ──▶ ours
 *
 * Relayed connections go on all the while: once negotiated, encryption needs no kernel part.
 */
import { exchangeMaps, takeOver } from '../kernel/daemon-maps.js';
import { KernelPartProbe } from '../kernel/kernel-part-probe.js';
import { close } from '../kernel/libc.js';
import type { MapCourier } from '../kernel/map-courier.js';
import { netnsCookie } from '../kernel/true-peer.js';
import type { Workforce } from './workforce.js';

/** Until the next attempt to take over a kernel part (ms): doubles. The first one may come before "up" is through. */
const FIRST_DELAY = 500;
const LAST_DELAY = 60_000;

export class KernelPart {
  readonly #probe = new KernelPartProbe();
  readonly #workforce: Workforce;
  readonly #courier: MapCourier;
  /** Of the maps that this process works with, in the order of openDaemonMaps(). */
  readonly #maps: readonly number[];
  #problem: string | undefined;
  #attaching = false;
  #failures = 0;
  #notBefore = 0;
  #closed = false;

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor(workforce: Workforce, courier: MapCourier, maps: readonly number[]) {
    this.#workforce = workforce;
    this.#courier = courier;
    this.#maps = maps;
  }

  /** Why nothing is encrypted. */
  get problem(): string | undefined {
    this.look();
    return this.#problem;
  }

  /** To be called now and then: a single system call while all is well. */
  look(): void {
    if (this.#closed || this.#attaching) return;
    let state: KernelPartProbe['state'];
    try {
      ({ state } = this.#probe);
    } catch {
      return; // out of descriptors: nobody knows
    }
    if (state === 'ours') return;
    if (this.#problem === undefined) {
      this.#workforce.log.kernelPartLost(state);
      this.#workforce.suspend();
    }
    if (state === 'gone') {
      this.#problem =
        'the kernel part is gone, nothing is encrypted: run "tcpcrypt up", and the daemon goes on by itself';
      this.#failures = 0;
      this.#notBefore = 0;
      return;
    }
    this.#problem ??= 'the kernel part was loaded anew, and is being taken over';
    if (Date.now() >= this.#notBefore) void this.#attach();
  }

  async #attach(): Promise<void> {
    const { log } = this.#workforce;
    this.#attaching = true;
    try {
      const fresh = await this.#courier.fetch();
      if (this.#closed) {
        for (const fd of fresh) close(fd);
        return;
      }
      takeOver(netnsCookie(), this.#maps, fresh);
      exchangeMaps(this.#maps, fresh);
      this.#probe.renew();
      await this.#workforce.renew();
      this.#problem = undefined;
      this.#failures = 0;
      log.kernelPartBack();
    } catch (error) {
      const { message } = error as Error;
      this.#problem = `the kernel part was loaded anew, and cannot be taken over, nothing that comes in is encrypted: restart the daemon (${message})`;
      this.#notBefore = Date.now() + Math.min(LAST_DELAY, FIRST_DELAY * 2 ** this.#failures++);
      // The first time, "tcpcrypt up" may not be through.
      if (this.#failures === 2) log.kernelPartUnusable(message);
    } finally {
      this.#attaching = false;
    }
  }

  close(): void {
    this.#closed = true;
    this.#probe.close();
    this.#courier.close();
  }
}
