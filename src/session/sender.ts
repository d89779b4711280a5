import { TAG_LENGTH } from '../crypto/index.js';
import { encodeFrameHeader, encodePlaintextHead, FRAME_HEADER_LENGTH, StreamOffset } from '../wire/index.js';
import { Generation, type Keys } from './generation.js';
import { JOIN_WRITES_UP_TO } from './tuning.js';

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

  /** All frames that are due, in pieces, in order. */
  seal(): Uint8Array[] {
    const wire: Uint8Array[] = [];
    if (this.#finSent) return wire;
    for (let data = this.#next(); data !== undefined; data = this.#next()) {
      const last = this.#finDue && this.#queue.length === 0 && this.#stepsDue() <= 1;
      this.#sealFrame(data, last, wire);
      this.#finSent = last;
      if (last) this.erase();
    }
    return wire;
  }

  erase(): void {
    this.#generation.erase();
  }

  #stepsDue(): number {
    return this.#target - this.#generation.number;
  }

  /** The data of the next frame; empty when a frame is due without any. */
  #next(): readonly Uint8Array[] | undefined {
    if (this.#finSent) return undefined;
    if (this.#queue.length > 0) return this.#queue.take(this.#options.maxFrameData);
    return this.#stepsDue() > 0 || this.#finDue ? [] : undefined; // TC-40: at once, even without data
  }

  #sealFrame(data: readonly Uint8Array[], fin: boolean, wire: Uint8Array[]): void {
    const plaintext = [encodePlaintextHead(fin), ...data];
    let clen = TAG_LENGTH;
    for (const piece of plaintext) clen += piece.length;
    const length = FRAME_HEADER_LENGTH + clen;

    // TC-33: long before 2^64 bytes. Only with data to send, so TC-41 does not forbid it.
    if (
      data.length > 0 &&
      this.#stepsDue() === 0 &&
      this.#bytesUnderKey + length > this.#options.rekeyAfterBytes
    )
      this.#target += 1;
    const rekey = this.#stepsDue() > 0; // TC-39: the first frame of a generation, and no other
    if (rekey) this.#step();

    const header = encodeFrameHeader({ rekey, clen });
    const nonce = this.#offset.nonce(this.#generation.nr);
    for (const piece of this.#generation.aead.seal(nonce, header, plaintext)) wire.push(piece);
    this.#offset.advance(length);
    this.#bytesUnderKey += length;
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
  take(max: number): Uint8Array[] {
    const [first] = this.#chunks;
    if (first === undefined) return [];
    if (first.length > max) {
      const size = Math.ceil(first.length / Math.ceil(first.length / max));
      this.#chunks[0] = first.subarray(size);
      this.#length -= size;
      return [first.subarray(0, size)];
    }
    let count = 0;
    let size = 0;
    for (const chunk of this.#chunks) {
      if (count > 0 && size + chunk.length > Math.min(max, JOIN_WRITES_UP_TO)) break;
      count += 1;
      size += chunk.length;
    }
    this.#length -= size;
    return this.#chunks.splice(0, count);
  }

  clear(): void {
    this.#chunks = [];
    this.#length = 0;
  }
}
