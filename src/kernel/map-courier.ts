/**
 * Fetches the maps of a kernel part that was loaded anew ("tcpcrypt down", "tcpcrypt up"), for a daemon that is not root any
 * more. Only root can open pins, so a shell with a fixed text stays root: for each line that it is sent, it opens these pins
 * and no others, and passes on the descriptors. It ends with the daemon.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { TcpcryptError } from '../errors.js';
import { descriptorChannel, emptyChannel, takeDescriptors } from './descriptor-passing.js';
import { close } from './libc.js';

/** How long it may take (ms), and how often is looked. */
const PATIENCE = 10_000;
const LOOK = 20;

/** The descriptor at which the shell, and the program that it runs, find the channel. */
export const CHANNEL = 3;

export class MapCourier {
  readonly #shell: ChildProcess;
  readonly #channel: number;

  /**
   * To be made by root.
   * @param program which is run with `pins` as its argument, and sends what openDaemonMaps() gives to {@link CHANNEL}; or,
   *                without descriptors, the reason why it cannot
   */
  constructor(program: string, pins: string) {
    const [ours, theirs] = descriptorChannel();
    this.#channel = ours;
    try {
      const script = `trap '' INT TERM HUP; while read -r _; do "$0" "$1" "$2" </dev/null; done`;
      this.#shell = spawn('/bin/sh', ['-c', script, process.execPath, program, pins], {
        detached: true,
        stdio: ['pipe', 'ignore', 'ignore', theirs],
      });
    } finally {
      close(theirs);
    }
    this.#shell.on('error', () => {}); // there is no shell: nothing ever comes
    this.#shell.unref();
    (this.#shell.stdin as import('node:net').Socket | null)?.unref();
    this.#shell.stdin?.on('error', () => {});
  }

  /**
   * The maps that are pinned now; the descriptors are the caller's.
   * @throws ERR_TCPCRYPT_KERNEL_ABSENT with what the program says; ERR_TCPCRYPT_SYSTEM when nobody answers
   */
  async fetch(): Promise<readonly number[]> {
    emptyChannel(this.#channel); // of an earlier attempt that was given up
    this.#shell.stdin?.write('maps\n');
    for (const deadline = Date.now() + PATIENCE; Date.now() < deadline; ) {
      await new Promise((resolve) => setTimeout(resolve, LOOK).unref());
      const passed = takeDescriptors(this.#channel);
      if (passed === undefined) continue;
      if (passed.descriptors.length > 0) return passed.descriptors;
      throw new TcpcryptError('ERR_TCPCRYPT_KERNEL_ABSENT', { detail: passed.text });
    }
    throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: 'nobody opens the pins for the daemon' });
  }

  close(): void {
    this.#shell.stdin?.end();
    close(this.#channel);
  }
}
