import { frameRoom, type Memory, TAG_LENGTH } from '../crypto/index.js';
import { encodeFrameHeader, encodePlaintextHead, FRAME_HEADER_LENGTH, StreamOffset } from '../wire/index.js';
import { Generation, type Keys } from './generation.js';
import { ANSWERS_AT_ONCE, JOIN_WRITES_UP_TO, SEAL_AT_ONCE } from './tuning.js';

/** Of a frame, besides its data: header, flags and tag. */
const OVERHEAD = FRAME_HEADER_LENGTH + 1 + TAG_LENGTH;

/** Of the frame at hand. */
const header = new Uint8Array(FRAME_HEADER_LENGTH);
const nonce = new Uint8Array(12);
const FLAGS = encodePlaintextHead(false);
const FLAGS_OF_LAST = encodePlaintextHead(true);

/** The data of a frame that is not sealed yet. */
interface Contents {
  readonly data: readonly Uint8Array[];
  /** Of data. */
  readonly length: number;
}

export interface SenderOptions extends Keys {
  /** Bytes of this direction's TCP stream before the first frame: the length of our Init message, or 0. */
  readonly offset: number | bigint;
  readonly maxFrameData: number;
  readonly rekeyAfterBytes: number;
}

/**
 * Makes frames of application data: the sending half of RFC 8548 §3.6 to §3.8. Data wait in a queue until
 * {@link seal}, so that FINp comes on the last frame, and writes that wait together can share one.
 */
export class Sender {
  readonly #options: SenderOptions;
  readonly #offset: StreamOffset;
  readonly #queue: WriteQueue;
  #generation: Generation;
  /** The generation that we owe the peer a frame of: "local generation" in RFC 8548 §3.8. */
  #target = 0;
  #bytesUnderKey = 0;
  #finDue = false;
  #finSent = false;

  /** `queue`: what was written before there were keys. */
  constructor(options: SenderOptions, queue: WriteQueue) {
    this.#options = options;
    this.#offset = new StreamOffset(options.offset);
    this.#generation = Generation.first(options);
    this.#queue = queue;
  }

  /** "Local generation" (RFC 8548 §3.8). */
  get generation(): number {
    return this.#target;
  }

  /** The next frame begins a new generation. */
  get owesFrame(): boolean {
    return this.#stepsDue() > 0;
  }

  get finSent(): boolean {
    return this.#finSent;
  }

  /** FINp will be on the last frame (TC-36). */
  end(): void {
    this.#finDue = true;
  }

  /**
   * Moves on to generation `target`. The next frames begin the generations up to it, one frame each: generations
   * cannot be skipped. After FINp there are no frames, hence no generations.
   */
  advanceTo(target: number): void {
    this.#target = Math.max(this.#target, target);
  }

  /**
   * All frames that are due, in order, but of those without data only some at a time; those that fit stand in one piece of
   * memory, which may be given back by {@link recycle}.
   */
  seal(): Uint8Array[] {
    const wire: Uint8Array[] = [];
    do {
      const frames = this.#due();
      if (frames.length > 0) wire.push(this.#sealAll(frames));
    } while (this.#queue.length > 0);
    return wire;
  }

  erase(): void {
    this.#generation.erase();
  }

  #stepsDue(): number {
    return this.#target - this.#generation.number;
  }

  /** The next frames; some without data, if there are none to go with them. */
  #due(): Contents[] {
    const frames: Contents[] = [];
    if (this.#finSent) return frames;
    for (let size = 0; size < SEAL_AT_ONCE && this.#queue.length > 0; ) {
      const contents = this.#queue.take(this.#options.maxFrameData);
      size += contents.length;
      frames.push(contents);
    }
    // TC-40: at once, even without data. TC-36: FINp needs a frame.
    const steps = Math.min(this.#stepsDue(), ANSWERS_AT_ONCE);
    while (this.#queue.length === 0 && frames.length < steps) frames.push(NO_DATA);
    if (this.#finDue && frames.length === 0) frames.push(NO_DATA);
    return frames;
  }

  #sealAll(frames: readonly Contents[]): Uint8Array {
    let length = 0;
    for (const contents of frames) length += OVERHEAD + contents.length;
    const room = frameRoom.take(length);
    let at = 0;
    for (let i = 0; i < frames.length; i++) {
      const last = this.#finDue && this.#queue.length === 0 && i === frames.length - 1;
      at = this.#sealFrame(frames[i] ?? NO_DATA, last, room, at);
      this.#finSent = last;
    }
    if (this.#finSent) this.erase();
    return room.bytes;
  }

  #sealFrame({ data, length }: Contents, fin: boolean, room: Memory, at: number): number {
    const size = OVERHEAD + length;
    // TC-33: long before 2^64 bytes. Only with data to send, so TC-41 does not forbid it.
    if (length > 0 && this.#stepsDue() === 0 && this.#bytesUnderKey + size > this.#options.rekeyAfterBytes)
      this.#target += 1;
    const rekey = this.#stepsDue() > 0; // TC-39: the first frame of a generation, and no other
    if (rekey) this.#step();

    encodeFrameHeader({ rekey, clen: size - FRAME_HEADER_LENGTH }, header);
    this.#offset.nonce(this.#generation.nr, nonce);
    const end = this.#generation.aead.seal(nonce, header, [fin ? FLAGS_OF_LAST : FLAGS, ...data], room, at);
    this.#offset.advance(size);
    this.#bytesUnderKey += size;
    return end;
  }

  #step(): void {
    const old = this.#generation;
    this.#generation = old.next();
    old.erase();
    this.#bytesUnderKey = 0;
  }
}

/** Application data that no frame was made of yet. */
export class WriteQueue {
  #chunks: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(data: Uint8Array): void {
    if (data.length === 0) return;
    this.#chunks.push(data);
    this.#length += data.length;
  }

  /**
   * The data of one frame: one write; or a part of one, when it is longer than a frame can be; or several small
   * ones. A long write is cut in equal parts, so that no tiny frame remains.
   */
  take(max: number): Contents {
    const [first] = this.#chunks;
    if (first === undefined) return NO_DATA;
    if (first.length > max) {
      const length = Math.ceil(first.length / Math.ceil(first.length / max));
      this.#chunks[0] = first.subarray(length);
      this.#length -= length;
      return { data: [first.subarray(0, length)], length };
    }
    let count = 0;
    let length = 0;
    for (const chunk of this.#chunks) {
      if (count > 0 && length + chunk.length > Math.min(max, JOIN_WRITES_UP_TO)) break;
      count += 1;
      length += chunk.length;
    }
    this.#length -= length;
    if (count < this.#chunks.length) return { data: this.#chunks.splice(0, count), length };
    const data = this.#chunks;
    this.#chunks = [];
    return { data, length };
  }

  clear(): void {
    this.#chunks = [];
    this.#length = 0;
  }
}

const NO_DATA: Contents = { data: [], length: 0 };
