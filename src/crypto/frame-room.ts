/** Chosen by us: small frames share blocks, as Node's own small buffers do. A frame keeps all of its block alive. */
const BLOCK = 8192;
const SHARE_UP_TO = 4_352;

/**
 * Memory for sealed frames, whose addresses are known. Every frame is given away for good: it is written when the
 * network lets it.
 */
export class FrameRoom {
  /** Of the frame that was taken last. */
  address = 0;
  readonly #addressOf: (bytes: Uint8Array) => number;
  #block = new ArrayBuffer(0);
  #blockAt = 0;
  #used = BLOCK;

  constructor(addressOf: (bytes: Uint8Array) => number) {
    this.#addressOf = addressOf;
  }

  /** `length` bytes with anything in them. */
  take(length: number): Buffer {
    if (length > SHARE_UP_TO) {
      const frame = Buffer.allocUnsafeSlow(length);
      this.address = this.#addressOf(frame);
      return frame;
    }
    if (this.#used + length > BLOCK) {
      const block = Buffer.allocUnsafeSlow(BLOCK);
      this.#block = block.buffer;
      this.#blockAt = this.#addressOf(block);
      this.#used = 0;
    }
    const frame = Buffer.from(this.#block, this.#used, length);
    this.address = this.#blockAt + this.#used;
    this.#used += length;
    return frame;
  }
}
