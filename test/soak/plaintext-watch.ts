/**
 * Looks at every TCP segment between the hosts, on the router, for what the programs under soak say: nothing of that may be
 * there in plaintext where the policy is `private`.
 *
 * A program's first bytes on a connection are {@link MARKER}; what follows is cut out of one block of random bytes, of which
 * eight in a row do not occur by chance. A segment counts as plaintext when it begins or ends with eight of the block, or holds the
 * marker. (What is shorter cannot be told; but no connection begins without the marker.)
 */
import type { ChildProcess } from 'node:child_process';
import type { Host } from '#src/lab/host.js';
import type { Lab } from '#src/lab/lab.js';
import { type CapturedSegment, parsePcap } from '#src/lab/pcap.js';

/** As in program.py. */
export const MARKER = Buffer.from('soak, in the open');

/** Bytes that are looked for. */
const WINDOW = 8;
/** Of a pcap file: the header of the file, and of each packet in it. */
const FILE_HEADER = 24;
const PACKET_HEADER = 16;

export interface Seen {
  readonly segments: number;
  /** With data of the programs that anybody could read. */
  readonly plaintext: number;
  /** The first of them, in words. */
  readonly examples: readonly string[];
  /** What tcpdump says that it has missed. */
  readonly lost: number;
}

export class PlaintextWatch {
  readonly #tcpdump: ChildProcess;
  readonly #reader: PcapReader;
  readonly #closed: Promise<void>;
  #stderr = '';

  /** @param block that the programs' bytes are cut out of, in a circle */
  static async start(lab: Lab, host: Host, block: Uint8Array): Promise<PlaintextWatch> {
    const watch = new PlaintextWatch(lab, host, block);
    await new Promise<void>((resolve, reject) => {
      watch.#tcpdump.stderr?.on('data', () => {
        if (watch.#stderr.includes('listening on ')) resolve();
      });
      watch.#tcpdump.once('close', () => reject(new Error(`tcpdump: ${watch.#stderr}`)));
    });
    return watch;
  }

  private constructor(lab: Lab, host: Host, block: Uint8Array) {
    const search = new PlaintextSearch(block);
    this.#reader = new PcapReader((segment) => search.look(segment));
    this.search = search;
    const flags = ['-i', host.routerInterface, '-n', '-s', '65600', '-B', `${64 * 1024}`];
    this.#tcpdump = lab.router.spawn('tcpdump', [...flags, '-U', '-w', '-', 'tcp'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#tcpdump.stdout?.on('data', (data: Buffer) => this.#reader.read(data));
    this.#tcpdump.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#closed = new Promise((resolve) => this.#tcpdump.once('close', () => resolve()));
  }

  readonly search: PlaintextSearch;

  /** @throws ERR_TCPCRYPT_CAPTURE when a segment was malformed */
  async stop(): Promise<Seen> {
    this.#tcpdump.kill('SIGINT');
    await this.#closed;
    if (this.#reader.failure !== undefined) throw this.#reader.failure;
    const lost = [...this.#stderr.matchAll(/^(\d+) packets? dropped by /gm)];
    const { segments, plaintext, examples } = this.search;
    return { segments, plaintext, examples, lost: lost.reduce((sum, [, count]) => sum + Number(count), 0) };
  }
}

/** Whether segments show what the programs said. */
export class PlaintextSearch {
  readonly #block: Buffer;
  /** Where in the block a number of 6 bytes stands. */
  readonly #places = new Map<number, number>();
  segments = 0;
  plaintext = 0;
  readonly examples: string[] = [];

  constructor(block: Uint8Array) {
    this.#block = Buffer.concat([block, block.subarray(0, WINDOW)]);
    for (let place = 0; place < block.length; place++)
      this.#places.set(this.#block.readUIntBE(place, 6), place);
  }

  look({ payload, ...segment }: CapturedSegment): void {
    this.segments++;
    const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
    if (!this.#shows(bytes)) return;
    this.plaintext++;
    const { source, sourcePort, destination, destinationPort, flags } = segment;
    if (this.examples.length < 5)
      this.examples.push(
        `${source}:${sourcePort} → ${destination}:${destinationPort} [${flags}] ${bytes.length} bytes`,
      );
  }

  #shows(bytes: Buffer): boolean {
    if (bytes.length < WINDOW) return false;
    return (
      this.#isOfBlock(bytes, 0) || this.#isOfBlock(bytes, bytes.length - WINDOW) || bytes.includes(MARKER)
    );
  }

  #isOfBlock(bytes: Buffer, offset: number): boolean {
    const place = this.#places.get(bytes.readUIntBE(offset, 6));
    if (place === undefined) return false;
    return bytes.compare(this.#block, place, place + WINDOW, offset, offset + WINDOW) === 0;
  }
}

/** Reads a pcap file as it grows. */
class PcapReader {
  readonly #take: (segment: CapturedSegment) => void;
  #header: Buffer | undefined;
  #rest: Buffer = Buffer.alloc(0);
  failure: unknown;

  constructor(take: (segment: CapturedSegment) => void) {
    this.#take = take;
  }

  read(data: Buffer): void {
    if (this.failure !== undefined) return;
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    if (this.#header === undefined) {
      if (this.#rest.length < FILE_HEADER) return;
      this.#header = Buffer.from(this.#rest.subarray(0, FILE_HEADER));
      this.#rest = this.#rest.subarray(FILE_HEADER);
    }
    let whole = 0;
    while (this.#rest.length >= whole + PACKET_HEADER) {
      // tcpdump writes in the byte order of the machine; that of everything that Linux containers run on is this one.
      const end = whole + PACKET_HEADER + this.#rest.readUInt32LE(whole + 8);
      if (end > this.#rest.length) break;
      whole = end;
    }
    if (whole === 0) return;
    try {
      const file = Buffer.concat([this.#header, this.#rest.subarray(0, whole)]);
      for (const segment of parsePcap(file)) this.#take(segment);
    } catch (error) {
      this.failure = error;
    }
    this.#rest = this.#rest.subarray(whole);
  }
}
