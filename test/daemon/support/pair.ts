/**
 * Two hosts, alice (client) and bob (server), with the daemon on both of them, or on one only:
 *
 *     alice [daemon] ──── router ──── [daemon] bob
 *
 *     for (const where of PLACES) describe(`with ${where}`, { skip }, () => {
 *       let pair: Pair;
 *       before(async () => { pair = await Pair.open(where); });
 *       after(() => pair?.close());
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonProcess, type LogLine } from '#src/demo/daemons.js';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';

export const skip = process.getuid?.() === 0 ? false : 'needs root';

export type Place = 'both ends' | 'the client only' | 'the server only' | 'neither end';
export const PLACES: readonly Place[] = ['both ends', 'the client only', 'the server only'];

const PATIENCE = 15_000;

export class Pair {
  readonly #undo: (() => unknown)[] = [];
  /** Where the daemon's maps are, on hosts that have the kernel part. */
  readonly #pins = new Map<Host, string>();

  /** What runs on the hosts; undefined where there is none. */
  onAlice: DaemonProcess | undefined;
  onBob: DaemonProcess | undefined;

  private constructor(
    readonly lab: Lab,
    readonly alice: Host,
    readonly bob: Host,
    readonly place: Place,
  ) {
    this.#undo.push(() => lab.destroy());
  }

  static async open(place: Place, flags: readonly string[] = []): Promise<Pair> {
    const lab = await Lab.create();
    const pair = new Pair(lab, lab.host('alice'), lab.host('bob'), place);
    try {
      if (place === 'both ends' || place === 'the client only') {
        pair.onAlice = await pair.daemon(pair.alice, flags);
      }
      if (place === 'both ends' || place === 'the server only')
        pair.onBob = await pair.daemon(pair.bob, flags);
    } catch (error) {
      await pair.close();
      throw error;
    }
    return pair;
  }

  /** Whether connections from alice to bob are to be encrypted. */
  get encrypts(): boolean {
    return this.place === 'both ends';
  }

  /** `tcpcrypt up` on `host`, where that has not been done. @returns the directory of its pins */
  kernelPart(host: Host): string {
    const present = this.#pins.get(host);
    if (present !== undefined) return present;
    const { pins, undo } = loadKernelPart(host);
    this.#undo.push(undo);
    this.#pins.set(host, pins);
    return pins;
  }

  async daemon(host: Host, flags: readonly string[] = []): Promise<DaemonProcess> {
    const daemon = await DaemonProcess.start(host, this.kernelPart(host), flags);
    this.#undo.push(() => daemon.stop());
    return daemon;
  }

  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const undo of this.#undo.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** What the daemons logged is forgotten: the next assertions are about connections that come now. */
  forget(): void {
    this.onAlice?.forget();
    this.onBob?.forget();
  }

  /**
   * Waits until the daemons have logged the end of `count` connections to `port` of bob, and checks that they were
   * encrypted with the same session IDs at both ends; or, with a daemon at one end, that none was.
   */
  async assertRelayed(port: number, count = 1): Promise<void> {
    if (this.encrypts) {
      await this.assertEncrypted(port, count);
      return;
    }
    assert.deepEqual(this.#log(this.onAlice, port, 'secure'), []);
    assert.deepEqual(this.#log(this.onBob, port, 'secure'), []);
  }

  /** As {@link assertRelayed}, where daemons run at both ends now. */
  async assertEncrypted(port: number, count: number): Promise<void> {
    const daemons = [this.onAlice, this.onBob];
    await eventually(() => {
      for (const daemon of daemons) assert.equal(this.#log(daemon, port, 'end').length, count);
    });
    for (const daemon of daemons) assert.deepEqual(this.#log(daemon, port, 'plain'), []);
    const ids = daemons.map((daemon) =>
      this.#log(daemon, port, 'secure')
        .map(({ sessionId }) => sessionId)
        .sort(),
    );
    assert.equal(ids[0]?.length, count);
    assert.deepEqual(ids[0], ids[1]);
    assert.equal(new Set(ids[0]).size, count);
  }

  /** What a daemon logged about connections to `port` of bob. */
  #log(daemon: DaemonProcess | undefined, port: number, event: string): LogLine[] {
    const bob = [`${this.bob.address4}:${port}`, `[${this.bob.address6}]:${port}`];
    return (daemon?.lines ?? []).filter(
      ({ local = '', remote = '', ...line }) =>
        line.event === event && (bob.includes(local) || bob.includes(remote)),
    );
  }
}

/** Checks that `daemon` has logged nothing since its lines were forgotten, but its answer to us. */
export async function assertSilent(daemon: DaemonProcess | undefined): Promise<void> {
  assert.ok(daemon !== undefined);
  await daemon.status(); // what it had to say before has been written by then
  assert.deepEqual(
    daemon.lines.filter(({ event }) => event !== 'status'),
    [],
  );
}

/** Waits until `check` does not throw any more. */
export async function eventually(check: () => unknown, patience = PATIENCE): Promise<void> {
  const deadline = Date.now() + patience;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(50);
    }
  }
}

/** A Python program, run as `host.run(...python(source), ...)`. */
export const python = (source: string, ...args: string[]): [string, string[]] => [
  'python3',
  ['-c', source, ...args],
];
