/** Chosen by us: small frames share blocks, as Node's own small buffers do. A frame keeps all of its block alive. */
const BLOCK = 8192;
const SHARE_UP_TO = 4352;
/** Chosen by us: frames from this size on have memory that can be used again; so many wait for it, 1 MiB at most. */
const LARGE_FROM = 32_768;
const MAX_FREE = 16;

/** The memory of one large frame. */
interface Large {
  readonly bytes: Buffer;
  readonly address: number;
}

/**
 * Memory for sealed frames, whose addresses are known. A frame is given away: it is written when the network lets it.
 * Frames may come back, so that their memory need not be collected and allocated again.
 */
export class FrameRoom {
  /** Of the frame that was taken last. */
  address = 0;
  readonly #addressOf: (bytes: Uint8Array) => number;
  #block = new ArrayBuffer(0);
  #blockAt = 0;
  #used = BLOCK;
  /** The frame at the end of the block, unless it came back. */
  #last: Uint8Array | undefined;
  readonly #free: Large[] = [];
  /** Given away, by their memory; forgotten with it. */
  readonly #lent = new WeakMap<ArrayBufferLike, Large>();

  constructor(addressOf: (bytes: Uint8Array) => number) {
    this.#addressOf = addressOf;
  }

  /** `length` bytes with anything in them. */
  take(length: number): Buffer {
    if (length <= SHARE_UP_TO) return this.#takeShared(length);
    if (length >= LARGE_FROM) return this.#takeLarge(length);
    const frame = Buffer.allocUnsafeSlow(length);
    this.address = this.#addressOf(frame);
    return frame;
  }

  /** Takes back a frame, which must not be used afterwards; ignores whatever else `frame` is. */
  takeBack(frame: Uint8Array): void {
    // Small frames are written one at a time, so it is the last one, usually.
    if (frame === this.#last) {
      this.#used = frame.byteOffset;
      this.#last = undefined;
      return;
    }
    const large = this.#lent.get(frame.buffer);
    if (large === undefined) return;
    this.#lent.delete(frame.buffer);
    if (this.#free.length < MAX_FREE) this.#free.push(large);
  }

  #takeShared(length: number): Buffer {
    if (this.#used + length > BLOCK) {
      const block = Buffer.allocUnsafeSlow(BLOCK);
      this.#block = block.buffer;
      this.#blockAt = this.#addressOf(block);
      this.#used = 0;
    }
    const frame = Buffer.from(this.#block, this.#used, length);
    this.address = this.#blockAt + this.#used;
    this.#used += length;
    this.#last = frame;
    return frame;
  }

  #takeLarge(length: number): Buffer {
    let large = this.#free.pop();
    if (large === undefined || large.bytes.length < length) {
      const bytes = Buffer.allocUnsafeSlow(length);
      large = { bytes, address: this.#addressOf(bytes) };
    }
    this.#lent.set(large.bytes.buffer, large);
    this.address = large.address;
    return length === large.bytes.length ? large.bytes : large.bytes.subarray(0, length);
  }
}
