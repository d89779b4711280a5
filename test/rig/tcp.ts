/**
 * A small, honest TCP (RFC 9293): sequence numbers of 32 bits, three-way handshake and simultaneous open,
 * retransmission with back-off, a receive window, reassembly, FIN and RST. It leaves out congestion control, TIME-WAIT
 * and urgent data. What it retransmits are the bytes that it sent before, perhaps cut elsewhere.
 */
import type { Random } from '../support/random.js';
import type { Clock, Timer } from './clock.js';
import { NO_BYTES, type Segment } from './segment.js';

export type SegmentKind = 'syn' | 'syn-ack' | 'other';
export type ResetCause = 'refused' | 'reset' | 'timeout';

/** Who sits on top of TCP. */
export interface TcpUser {
  /** The option area for a segment that is about to be sent; `attempt` counts the SYNs from 0. */
  options(kind: SegmentKind, attempt: number): Uint8Array;
  /** A segment that TCP accepts, before anything is done with it. */
  accepted(segment: Segment): void;
  connected(): void;
  data(bytes: Uint8Array): void;
  end(): void;
  /** The connection is gone without the peer's FIN. */
  reset(cause: ResetCause): void;
}

export interface TcpParameters {
  readonly mss: number;
  /** Segments of any length up to `mss`, also when there is more to send. */
  readonly ragged: boolean;
  readonly receiveBuffer: number;
}

type State = 'closed' | 'listen' | 'syn-sent' | 'syn-received' | 'established';

const RETRANSMIT_AFTER = 1000;
const LONGEST_BACK_OFF = 60_000;
/** Of the answers to segments without data that are outside the window: else two ends could answer each other for ever. */
const STRAY_ACK_INTERVAL = 500;
const SYN_RETRIES = 8;
const DATA_RETRIES = 15;

/** Positions in a stream: the SYN has 0, the first byte 1, and FIN the one behind the last byte. */
type Position = number;

export class Tcp {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #parameters: TcpParameters;
  readonly #user: TcpUser;
  readonly #transmit: (segment: Segment) => void;
  #state: State = 'closed';

  // What we send.
  readonly #initialSend: number;
  #unacknowledged: Position = 0;
  #next: Position = 0;
  #highest: Position = 0;
  #window = 0;
  #stream = Buffer.alloc(1024);
  #streamLength = 0;
  /** Ends of writes: the segment that ends there has PSH. */
  readonly #writeEnds: Position[] = [];
  #finQueued = false;
  #attempts = 0;
  #retries = 0;
  #timer: Timer | undefined;
  #outputDue = false;

  // What we receive.
  #initialReceive = 0;
  #expected: Position = 0;
  #early: { readonly from: Position; readonly data: Uint8Array }[] = [];
  #finAt: Position | undefined;
  #finReceived = false;
  #inbox: Uint8Array[] = [];
  #inboxLength = 0;
  #paused = false;
  #endDelivered = false;
  #lastStrayAck = Number.NEGATIVE_INFINITY;

  constructor(
    clock: Clock,
    random: Random,
    parameters: TcpParameters,
    user: TcpUser,
    transmit: (segment: Segment) => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#parameters = parameters;
    this.#user = user;
    this.#transmit = transmit;
    this.#initialSend = random.next();
  }

  connect(): void {
    this.#state = 'syn-sent';
    this.#sendSyn();
  }

  listen(): void {
    this.#state = 'listen';
  }

  /** One write: its last byte is pushed. */
  write(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#stream.length < this.#streamLength + bytes.length) {
      const larger = Buffer.alloc(2 * (this.#streamLength + bytes.length));
      larger.set(this.#stream.subarray(0, this.#streamLength));
      this.#stream = larger;
    }
    this.#stream.set(bytes, this.#streamLength);
    this.#streamLength += bytes.length;
    this.#writeEnds.push(1 + this.#streamLength);
    this.#scheduleOutput();
  }

  end(): void {
    this.#finQueued = true;
    this.#scheduleOutput();
  }

  /** RST, and nothing more. */
  abort(): void {
    if (this.#state === 'syn-received' || this.#state === 'established')
      this.#send({ rst: true, at: this.#next });
    this.#close();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    const windowWasShut = this.#room() < this.#parameters.mss;
    this.#deliver();
    if (windowWasShut && this.#state === 'established') this.#send({ at: this.#next });
  }

  receive(segment: Segment): void {
    switch (this.#state) {
      case 'closed':
        if (!segment.rst) this.#refuse(segment);
        return;
      case 'listen':
        this.#receiveAtListener(segment);
        return;
      case 'syn-sent':
        this.#receiveAnswer(segment);
        return;
      case 'syn-received':
        this.#receiveFirstAck(segment);
        return;
      case 'established':
        this.#receiveEstablished(segment);
        return;
    }
  }

  // ---- Handshake --------------------------------------------------------------------------------------------

  #receiveAtListener(segment: Segment): void {
    if (segment.rst) return;
    if (segment.ack || !segment.syn) {
      this.#refuse(segment);
      return;
    }
    this.#state = 'syn-received';
    this.#startReceiving(segment);
    this.#user.accepted(segment);
    this.#sendSynAck();
  }

  #receiveAnswer(segment: Segment): void {
    if (segment.ack && this.#acknowledged(segment) !== 1) {
      if (!segment.rst) this.#refuse(segment);
      return;
    }
    if (segment.rst) {
      if (segment.ack) this.#fail('refused');
      return;
    }
    if (!segment.syn) return;
    this.#startReceiving(segment);
    if (!segment.ack) {
      this.#state = 'syn-received'; // simultaneous open
      this.#user.accepted(segment);
      this.#sendSynAck();
      return;
    }
    this.#becomeEstablished(segment);
    this.#send({ at: this.#next });
  }

  #receiveFirstAck(segment: Segment): void {
    if (segment.rst) {
      if (this.#isInWindow(segment)) this.#fail('reset');
      return;
    }
    if (segment.syn && segment.seq !== this.#initialReceive) return;
    if (segment.syn && !segment.ack) {
      this.#user.accepted(segment);
      this.#sendSynAck();
      return;
    }
    if (!segment.ack) return;
    if (this.#acknowledged(segment) !== 1) {
      this.#refuse(segment);
      return;
    }
    if (!segment.syn && !this.#isInWindow(segment)) return;
    this.#becomeEstablished(segment);
    if (segment.syn) this.#send({ at: this.#next });
    else this.#receiveText(segment);
  }

  #startReceiving(syn: Segment): void {
    this.#initialReceive = syn.seq;
    this.#expected = 1;
    this.#window = syn.window;
  }

  #becomeEstablished(segment: Segment): void {
    this.#state = 'established';
    this.#unacknowledged = 1;
    this.#next = 1;
    this.#window = segment.window;
    this.#retries = 0;
    this.#timer?.cancel();
    this.#user.accepted(segment);
    this.#user.connected();
    this.#scheduleOutput();
  }

  #sendSyn(): void {
    this.#send({ syn: true, at: 0, attempt: this.#attempts++ });
    this.#next = 1;
    this.#arm(() => this.#sendSyn());
  }

  #sendSynAck(): void {
    this.#send({ syn: true, at: 0 });
    this.#next = 1;
    this.#arm(() => this.#sendSynAck());
  }

  // ---- Sending ----------------------------------------------------------------------------------------------

  /** What is written and ended in one go shares segments. */
  #scheduleOutput(): void {
    if (this.#outputDue || this.#state !== 'established') return;
    this.#outputDue = true;
    this.#clock.after(0, () => {
      this.#outputDue = false;
      if (this.#state !== 'established') return;
      while (this.#sendNext());
      if (this.#next > this.#unacknowledged || this.#waiting()) this.#arm(() => this.#retransmit());
    });
  }

  /** There is something to send that did not go out yet. */
  #waiting(): boolean {
    return this.#next < this.#endOfStream() || (this.#finQueued && this.#next === this.#endOfStream());
  }

  #endOfStream(): Position {
    return 1 + this.#streamLength;
  }

  /** Sends one segment, if there is something to send and room for it. */
  #sendNext(window = this.#window): boolean {
    if (!this.#waiting()) return false;
    const end = this.#endOfStream();
    const room = this.#unacknowledged + window - this.#next;
    if (this.#next < end && room <= 0) return false;
    // A write that is under way goes to its end before the next one begins; then it carries PSH.
    const write = this.#writeEnds.find((at) => at > this.#next) ?? end;
    const { mss, ragged } = this.#parameters;
    const length = Math.min(write - this.#next, room, ragged ? this.#random.between(1, mss) : mss);
    const to = this.#next + Math.max(0, length);
    const fin = this.#finQueued && to === end;
    const data = this.#stream.subarray(this.#next - 1, to - 1);
    this.#send({ at: this.#next, data: new Uint8Array(data), fin, psh: length > 0 && to === write });
    this.#next = to + (fin ? 1 : 0);
    return true;
  }

  #retransmit(): void {
    this.#next = this.#unacknowledged;
    this.#sendNext(Math.max(1, this.#window)); // also the probe of a window that is shut
    this.#arm(() => this.#retransmit());
  }

  #send(segment: {
    readonly at: Position;
    readonly syn?: boolean;
    readonly fin?: boolean;
    readonly rst?: boolean;
    readonly psh?: boolean;
    readonly data?: Uint8Array;
    readonly attempt?: number;
  }): void {
    const { at, syn = false, fin = false, rst = false, psh = false, data = NO_BYTES, attempt = 0 } = segment;
    const ack = this.#state !== 'syn-sent';
    const kind = !syn ? 'other' : ack ? 'syn-ack' : 'syn';
    this.#highest = Math.max(this.#highest, at + (syn ? 1 : 0) + data.length + (fin ? 1 : 0));
    this.#transmit({
      syn,
      ack,
      fin,
      rst,
      psh,
      seq: (this.#initialSend + at) >>> 0,
      ackNumber: ack ? (this.#initialReceive + this.#expected) >>> 0 : 0,
      window: Math.max(0, this.#room()),
      options: rst ? NO_BYTES : this.#user.options(kind, attempt),
      data,
    });
  }

  /** What a TCP says to a segment of a connection that it does not know. */
  #refuse(segment: Segment): void {
    this.#transmit({
      syn: false,
      ack: !segment.ack,
      fin: false,
      rst: true,
      psh: false,
      seq: segment.ack ? segment.ackNumber : 0,
      ackNumber: segment.ack ? 0 : (segment.seq + segment.data.length + (segment.syn ? 1 : 0)) >>> 0,
      window: 0,
      options: NO_BYTES,
      data: NO_BYTES,
    });
  }

  #arm(action: () => void): void {
    this.#timer?.cancel();
    const wait = Math.min(LONGEST_BACK_OFF, RETRANSMIT_AFTER * 2 ** this.#retries);
    this.#timer = this.#clock.after(wait, () => {
      this.#retries += 1;
      if (this.#retries > (this.#state === 'established' ? DATA_RETRIES : SYN_RETRIES)) this.#fail('timeout');
      else action();
    });
  }

  // ---- Receiving --------------------------------------------------------------------------------------------

  #receiveEstablished(segment: Segment): void {
    if (segment.rst) {
      if (this.#isInWindow(segment)) this.#fail('reset');
      return;
    }
    if (segment.syn || !segment.ack || !this.#isInWindow(segment)) {
      this.#answerStray(segment);
      return;
    }
    if (this.#acknowledged(segment) > this.#highest) return;
    this.#user.accepted(segment);
    this.#receiveText(segment);
  }

  /** A late copy: our answer to it was lost, perhaps. */
  #answerStray({ syn, fin, data }: Segment): void {
    const empty = !syn && !fin && data.length === 0;
    if (empty && this.#clock.now < this.#lastStrayAck + STRAY_ACK_INTERVAL) return;
    if (empty) this.#lastStrayAck = this.#clock.now;
    this.#send({ at: this.#next });
  }

  #receiveText(segment: Segment): void {
    const acknowledged = this.#acknowledged(segment);
    if (acknowledged >= this.#unacknowledged) this.#window = segment.window;
    if (acknowledged > this.#unacknowledged) {
      this.#unacknowledged = acknowledged;
      this.#next = Math.max(this.#next, acknowledged);
      this.#retries = 0;
      this.#timer?.cancel();
      while ((this.#writeEnds[0] ?? acknowledged) < acknowledged) this.#writeEnds.shift();
    }
    this.#scheduleOutput();

    const from = this.#position(segment);
    const to = from + segment.data.length;
    if (segment.fin && to <= this.#expected + this.#room()) this.#finAt ??= to;
    const data = segment.data.subarray(0, Math.max(0, this.#expected + this.#room() - from));
    if (data.length > 0) this.#early.push({ from, data });
    this.#reassemble();
    if (segment.data.length > 0 || segment.fin) this.#send({ at: this.#next });
    this.#deliver();
  }

  #reassemble(): void {
    for (let moved = true; moved && !this.#finReceived; ) {
      moved = false;
      for (const { from, data } of this.#early) {
        if (from > this.#expected || from + data.length <= this.#expected) continue;
        const limit = this.#finAt ?? Number.POSITIVE_INFINITY;
        const fresh = data.subarray(this.#expected - from, Math.max(0, limit - from));
        if (fresh.length === 0) continue;
        this.#inbox.push(new Uint8Array(fresh));
        this.#inboxLength += fresh.length;
        this.#expected += fresh.length;
        moved = true;
      }
      if (this.#expected === this.#finAt) {
        this.#finReceived = true;
        this.#expected += 1;
      }
    }
    this.#early = this.#early.filter(({ from, data }) => from + data.length > this.#expected);
  }

  #deliver(): void {
    while (!this.#paused && this.#state === 'established') {
      const chunk = this.#inbox.shift();
      if (chunk === undefined) break;
      this.#inboxLength -= chunk.length;
      this.#user.data(chunk);
    }
    if (this.#paused || this.#state !== 'established' || !this.#finReceived || this.#endDelivered) return;
    this.#endDelivered = true;
    this.#user.end();
  }

  #room(): number {
    return this.#parameters.receiveBuffer - this.#inboxLength;
  }

  /** Overlaps with what we are ready for, or stands right before it. */
  #isInWindow(segment: Segment): boolean {
    const from = this.#position(segment);
    if (segment.rst) return from >= this.#expected && from <= this.#expected + this.#room();
    return (
      from <= this.#expected + this.#room() &&
      from + segment.data.length + (segment.fin ? 1 : 0) >= this.#expected
    );
  }

  #position(segment: Segment): Position {
    return this.#expected + ((segment.seq - (this.#initialReceive + this.#expected)) | 0);
  }

  #acknowledged(segment: Segment): Position {
    return this.#unacknowledged + ((segment.ackNumber - (this.#initialSend + this.#unacknowledged)) | 0);
  }

  // ---- The end ----------------------------------------------------------------------------------------------

  #fail(cause: ResetCause): void {
    this.#close();
    this.#user.reset(cause);
  }

  #close(): void {
    this.#state = 'closed';
    this.#timer?.cancel();
    this.#inbox = [];
    this.#early = [];
  }
}
