/** What lies between two hosts: delay, loss, reordering, copies, other segment boundaries, and worse. */
import type { Random } from '../support/random.js';
import type { Clock } from './clock.js';
import { carriesEno, enoRanges, NO_BYTES, type Segment, stripEno } from './segment.js';

export type Side = 'client' | 'server';
export const SIDES: readonly [Side, Side] = ['client', 'server'];
export const other = (side: Side): Side => (side === 'client' ? 'server' : 'client');

export interface PathParameters {
  /** Milliseconds; a segment takes between `delay` and `delay + jitter`, so those with jitter overtake. */
  readonly delay: number;
  readonly jitter: number;
  /** Percent of the segments. */
  readonly loss: number;
  readonly copies: number;
  /** Percent of the data segments that are cut in two on the way. */
  readonly cuts: number;
  readonly strip: Strip | undefined;
  readonly tamper: Tamper | undefined;
}

/** A box that removes ENO options from what `from` sends. */
export interface Strip {
  readonly from: Side | 'both';
  readonly segments: 'syn' | 'non-syn' | 'all' | 'some';
}

/** Somebody in the middle who changes what `from` sends: its `at`-th segment with data, or SYN for 'eno'. */
export interface Tamper {
  readonly from: Side;
  readonly at: number;
  readonly how: 'flip' | 'replace' | 'forge' | 'replay' | 'reflect' | 'fin' | 'no-fin' | 'rst' | 'eno';
}

export class Path {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #parameters: PathParameters;
  readonly #receivers = new Map<Side, (segment: Segment) => void>();
  readonly #data: { readonly [side in Side]: Uint8Array[] } = { client: [], server: [] };
  #seen = 0;
  /** Called for each segment that a host sends, before anything happens to it. */
  readonly #watch: (from: Side, segment: Segment) => void;
  /** Somebody did change something. */
  tampered = false;

  constructor(
    clock: Clock,
    random: Random,
    parameters: PathParameters,
    watch: (from: Side, segment: Segment) => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#parameters = parameters;
    this.#watch = watch;
  }

  attach(side: Side, receive: (segment: Segment) => void): void {
    this.#receivers.set(side, receive);
  }

  send(from: Side, segment: Segment): void {
    this.#watch(from, segment);
    for (const changed of this.#tamper(from, this.#strip(from, segment)))
      for (const part of this.#cut(changed)) this.#carry(from, part);
  }

  #carry(from: Side, segment: Segment): void {
    const { loss, copies, delay, jitter } = this.#parameters;
    if (this.#random.chance(loss)) return;
    const arrive = () => this.#receivers.get(other(from))?.(segment);
    this.#clock.after(delay + this.#random.below(jitter + 1), arrive);
    if (this.#random.chance(copies)) this.#clock.after(delay + this.#random.below(4 * jitter + 1), arrive);
  }

  /** As the offload of a network card does it: options on both parts, PSH and FIN on the last. */
  #cut(segment: Segment): Segment[] {
    const { data } = segment;
    if (data.length < 2 || !this.#random.chance(this.#parameters.cuts)) return [segment];
    const at = this.#random.between(1, data.length - 1);
    return [
      { ...segment, data: data.subarray(0, at), fin: false, psh: false },
      { ...segment, data: data.subarray(at), seq: (segment.seq + at) >>> 0 },
    ];
  }

  #strip(from: Side, segment: Segment): Segment {
    const { strip } = this.#parameters;
    if (strip === undefined || (strip.from !== 'both' && strip.from !== from) || !carriesEno(segment))
      return segment;
    switch (strip.segments) {
      case 'syn':
        return segment.syn ? stripEno(segment) : segment;
      case 'non-syn':
        return segment.syn ? segment : stripEno(segment);
      case 'all':
        return stripEno(segment);
      case 'some':
        return this.#random.chance(50) ? stripEno(segment) : segment;
    }
  }

  #tamper(from: Side, segment: Segment): Segment[] {
    const { tamper } = this.#parameters;
    if (segment.data.length > 0) this.#data[from].push(segment.data);
    if (tamper === undefined || tamper.from !== from) return [segment];
    const victim =
      tamper.how === 'eno' ? segment.syn : tamper.how === 'no-fin' ? segment.fin : segment.data.length > 0;
    if (!victim) return [segment];
    // Whoever removes a FIN must remove all of them: TCP sends it again.
    if (tamper.how !== 'no-fin' && tamper.how !== 'eno' && this.#seen++ !== tamper.at) return [segment];
    this.tampered = true;
    return this.#change(from, segment, tamper);
  }

  #change(from: Side, segment: Segment, { how, at }: Tamper): Segment[] {
    const { data } = segment;
    const random = this.#random;
    switch (how) {
      case 'flip': {
        const flipped = data.slice();
        const index = random.below(data.length);
        flipped[index] = (flipped[index] ?? 0) ^ (1 << random.below(8));
        return [{ ...segment, data: flipped }];
      }
      case 'replace':
        return [{ ...segment, data: random.bytes(data.length) }];
      case 'forge':
        return [{ ...segment, data: random.bytes(random.between(1, 2 * data.length)) }, segment];
      case 'replay':
      case 'reflect': {
        const old = Buffer.concat(this.#data[how === 'replay' ? from : other(from)]);
        if (old.length < data.length) return [segment];
        const start = random.below(old.length - data.length + 1);
        return [{ ...segment, data: new Uint8Array(old.subarray(start, start + data.length)) }];
      }
      case 'fin':
        return [{ ...segment, fin: true }];
      case 'no-fin':
        return [{ ...segment, fin: false }];
      case 'rst':
        return [{ ...segment, rst: true, data: NO_BYTES, options: NO_BYTES }, segment];
      case 'eno':
        return [{ ...segment, options: this.#changeEno(segment.options, at) }];
    }
  }

  /** The same change in each SYN, or retransmission would show it. */
  #changeEno(options: Uint8Array, at: number): Uint8Array {
    const [range] = enoRanges(options);
    if (range === undefined) return options;
    const [from, to] = range;
    if (to - from <= 2) return options;
    const changed = options.slice();
    const index = from + 2 + ((at >> 3) % (to - from - 2));
    changed[index] = (changed[index] ?? 0) ^ (1 << (at & 7));
    return changed;
  }
}
