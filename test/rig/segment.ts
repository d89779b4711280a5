/** A TCP segment as the rig passes it on, without ports and checksum. */
import { TCP_OPTION_ENO, TCP_OPTION_EOL, TCP_OPTION_NOP } from '#src/wire/index.js';

export interface Segment {
  readonly syn: boolean;
  readonly ack: boolean;
  readonly fin: boolean;
  readonly rst: boolean;
  readonly psh: boolean;
  /** 32 bits, as on the wire. */
  readonly seq: number;
  readonly ackNumber: number;
  readonly window: number;
  /** The whole option area. */
  readonly options: Uint8Array;
  readonly data: Uint8Array;
}

export const NO_BYTES = new Uint8Array();

/** For people, like tcpdump. */
export function describe(segment: Segment): string {
  const { syn, fin, rst, psh, ack, seq, ackNumber, options, data } = segment;
  const flags = `${syn ? 'S' : ''}${fin ? 'F' : ''}${rst ? 'R' : ''}${psh ? 'P' : ''}${ack ? '.' : ''}`;
  const eno = [...enoRanges(options)].map(([from, to]) =>
    Buffer.from(options.subarray(from, to)).toString('hex'),
  );
  return `[${flags}] seq ${seq} ack ${ackNumber} length ${data.length}${eno.map((hex) => ` ENO ${hex}`).join('')}`;
}

/** Where the ENO options stand in an option area that we made ourselves: from, to. */
export function* enoRanges(options: Uint8Array): Generator<readonly [number, number]> {
  for (let at = 0; at < options.length; ) {
    const kind = options[at];
    if (kind === TCP_OPTION_EOL) return;
    if (kind === TCP_OPTION_NOP) {
      at += 1;
      continue;
    }
    const length = options[at + 1] ?? 0;
    if (length < 2) return;
    if (kind === TCP_OPTION_ENO) yield [at, at + length];
    at += length;
  }
}

export const carriesEno = (segment: Segment): boolean => !enoRanges(segment.options).next().done;

/** What a box on the path does that does not like ENO: no-operations take its place. */
export function stripEno(segment: Segment): Segment {
  const options = segment.options.slice();
  for (const [from, to] of enoRanges(segment.options)) options.fill(TCP_OPTION_NOP, from, to);
  return { ...segment, options };
}
