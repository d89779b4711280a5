/**
 * What crosses the wire between a host and the router, recorded by tcpdump on the router's side.
 *
 * The network cards of a lab are virtual: what the hosts hand over in one piece (segmentation offload) appears
 * as one segment of up to 64 KiB, and checksums are not filled in. Bytes, options and order are those on the wire.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TcpcryptError } from '../errors.js';
import type { Host } from './host.js';
import type { Lab } from './lab.js';
import { killGroup } from './netns.js';
import { type CapturedSegment, parsePcap } from './pcap.js';

export interface CaptureOptions {
  /** The pcap file; kept after the capture. Default: a temporary file. */
  readonly file?: string;
}

const START_TIMEOUT_MS = 10_000;
const DRAIN_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
/** A packet of 64 KiB with its headers; each packet takes as much of the buffer, whatever its size. */
const SNAPLEN = 65_600;
const BUFFER_KIB = 32 * 1024;
/** The discard service (RFC 863): where the packet is sent that marks the end of the capture. */
const MARK_PORT = 9;

let captures = 0;

export class Capture {
  readonly file: string;
  readonly #lab: Lab;
  readonly #host: Host;
  readonly #temporary: boolean;
  readonly #tcpdump: ChildProcess;
  #stderr = '';

  /**
   * Records all TCP segments between `host` and the router; resolves when not a single one can be missed any more.
   * @throws ERR_TCPCRYPT_LAB when tcpdump does not start.
   */
  static async start(lab: Lab, host: Host, options: CaptureOptions = {}): Promise<Capture> {
    const capture = new Capture(lab, host, options);
    await capture.#listening();
    return capture;
  }

  private constructor(lab: Lab, host: Host, options: CaptureOptions) {
    this.#lab = lab;
    this.#host = host;
    this.#temporary = options.file === undefined;
    this.file = options.file ?? join(lab.directory, `${host.name}-${++captures}.pcap`);
    this.#tcpdump = lab.router.spawn(
      'tcpdump',
      [
        ...['-i', host.routerInterface, '-n', '-s', String(SNAPLEN), '-B', String(BUFFER_KIB)],
        // Each packet goes to the file at once; and it is root who writes the file, not the user tcpdump.
        ...['--immediate-mode', '-U', '-Z', 'root', '-w', this.file],
        `tcp or (udp and dst port ${MARK_PORT})`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#tcpdump.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
  }

  /**
   * Ends the capture and returns all segments that had crossed the wire before the call.
   * @throws ERR_TCPCRYPT_LAB when tcpdump lost packets, ERR_TCPCRYPT_CAPTURE when a segment is malformed.
   */
  async stop(): Promise<CapturedSegment[]> {
    try {
      await this.#drain();
    } finally {
      await this.#end();
    }
    const lost = /^([1-9]\d*) packets? dropped by (kernel|interface)/m.exec(this.#stderr);
    if (lost !== null) throw this.#failure(`lost ${lost[1]} packets`);
    const segments = parsePcap(await readFile(this.file));
    if (this.#temporary) await rm(this.file);
    return segments;
  }

  async #listening(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!this.#stderr.includes('listening on ')) {
      if (this.#hasEnded()) throw this.#failure('ended');
      if (performance.now() > deadline) {
        killGroup(this.#tcpdump);
        throw this.#failure('does not start');
      }
      await sleep(POLL_MS);
    }
  }

  /**
   * Waits until everything captured is in the file. Packets keep their order, so once a packet that is sent now
   * has arrived in the file, all earlier ones have.
   */
  async #drain(): Promise<void> {
    const mark = randomBytes(16);
    const send = `const socket = require('node:dgram').createSocket('udp4');
      socket.send(Buffer.from('${mark.toString('hex')}', 'hex'), ${MARK_PORT}, '${this.#host.address4}', () => socket.close());`;
    const file = await open(this.file);
    try {
      let { size: searched } = await file.stat();
      this.#lab.router.enter(process.execPath, ['-e', send]);
      const deadline = performance.now() + DRAIN_TIMEOUT_MS;
      for (;;) {
        const { size } = await file.stat();
        const fresh = Buffer.alloc(size - searched);
        await file.read(fresh, 0, fresh.length, searched);
        if (fresh.includes(mark)) return;
        // The mark may lie across the end of what was written so far.
        searched = Math.max(searched, size - mark.length);
        if (this.#hasEnded()) throw this.#failure('ended early');
        if (performance.now() > deadline) throw this.#failure('does not keep up');
        await sleep(POLL_MS);
      }
    } finally {
      await file.close();
    }
  }

  async #end(): Promise<void> {
    if (this.#hasEnded()) return;
    const closed = new Promise((resolve) => this.#tcpdump.once('close', resolve));
    this.#tcpdump.kill('SIGINT');
    const timer = setTimeout(() => killGroup(this.#tcpdump), DRAIN_TIMEOUT_MS);
    await closed;
    clearTimeout(timer);
  }

  #hasEnded(): boolean {
    return this.#tcpdump.exitCode !== null || this.#tcpdump.signalCode !== null;
  }

  #failure(what: string): TcpcryptError {
    return new TcpcryptError('ERR_TCPCRYPT_LAB', { detail: `tcpdump ${what}: ${this.#stderr.trim()}` });
  }
}
