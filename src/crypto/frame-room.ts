import type { Memory } from './aead.js';
import { memoryOf } from './openssl.js';

/** Chosen by us: small frames share blocks, as Node's own small buffers do. A frame keeps all of its block alive. */
const BLOCK = 8192;
const SHARE_UP_TO = 4352;
/** Chosen by us: others have a block of their own, that can be used again for one not much smaller. */
const GRAIN = 16_384;
const WASTE = 4;
/** Chosen by us: so many bytes wait for their next use, and so many blocks are expected back. */
const MAX_FREE = 1024 * 1024;
const MAX_AWAITED = 16;

/** The memory of one large piece. */
interface Large {
  readonly whole: Memory;
  /** What of it was given away. */
  given: Memory;
}

/**
 * Memory for sealed frames, whose addresses are known. What is taken is given away: it is written when the network lets
 * it. It may come back, so that its memory need not be collected and allocated again; usually it does so at once.
 */
export class FrameRoom {
  readonly #memoryOf: (bytes: Uint8Array) => Memory;
  #block: Memory = { bytes: new Uint8Array(), address: 0 };
  #used = BLOCK;
  /** The small piece at the end of the block, unless it came back. */
  #lastSmall: Uint8Array | undefined;
  #lastLarge: Large | undefined;
  /** Given away before that; the oldest are forgotten. */
  readonly #awaited: Large[] = [];
  readonly #free: Large[] = [];
  #freeBytes = 0;

  constructor(memory: (bytes: Uint8Array) => Memory) {
    this.#memoryOf = memory;
  }

  /** `length` bytes with anything in them. */
  take(length: number): Memory {
    return length <= SHARE_UP_TO ? this.#takeShared(length) : this.#takeLarge(length);
  }

  /** Takes back what was taken, all of it or its end, which must not be used afterwards; ignores whatever else it is. */
  takeBack(bytes: Uint8Array): void {
    if (bytes === this.#lastLarge?.given.bytes) {
      this.#keep(this.#lastLarge);
      this.#lastLarge = undefined;
    } else if (bytes === this.#lastSmall) {
      this.#used = bytes.byteOffset - this.#block.bytes.byteOffset;
      this.#lastSmall = undefined;
    } else if (bytes.length > 0) this.#takeBackLate(bytes.buffer);
  }

  #takeShared(length: number): Memory {
    if (this.#used + length > BLOCK) {
      this.#block = this.#memoryOf(Buffer.allocUnsafeSlow(BLOCK));
      this.#used = 0;
    }
    const bytes = this.#block.bytes.subarray(this.#used, this.#used + length);
    const address = this.#block.address + this.#used;
    this.#used += length;
    this.#lastSmall = bytes;
    return { bytes, address };
  }

  #takeLarge(length: number): Memory {
    if (this.#lastLarge !== undefined) {
      if (this.#awaited.push(this.#lastLarge) > MAX_AWAITED) this.#awaited.shift();
    }
    const large = this.#reuse(length) ?? this.#allocate(length);
    // Bulk comes in pieces of one length: no new view for each.
    if (large.given.bytes.length !== length) large.given = beginning(large.whole, length);
    this.#lastLarge = large;
    return large.given;
  }

  #reuse(length: number): Large | undefined {
    for (let i = this.#free.length - 1; i >= 0; i--) {
      const size = this.#free[i]?.whole.bytes.length ?? 0;
      if (size < length || size > WASTE * length + GRAIN) continue;
      this.#freeBytes -= size;
      return i === this.#free.length - 1 ? this.#free.pop() : this.#free.splice(i, 1)[0];
    }
    return undefined;
  }

  #allocate(length: number): Large {
    const whole = this.#memoryOf(Buffer.allocUnsafeSlow(Math.ceil(length / GRAIN) * GRAIN));
    return { whole, given: whole };
  }

  #takeBackLate(buffer: ArrayBufferLike): void {
    if (buffer === this.#lastLarge?.whole.bytes.buffer) {
      this.#keep(this.#lastLarge);
      this.#lastLarge = undefined;
      return;
    }
    const at = this.#awaited.findIndex(({ whole }) => whole.bytes.buffer === buffer);
    for (const large of at < 0 ? [] : this.#awaited.splice(at, 1)) this.#keep(large);
  }

  #keep(large: Large): void {
    this.#free.push(large);
    this.#freeBytes += large.whole.bytes.length;
    while (this.#freeBytes > MAX_FREE) this.#freeBytes -= this.#free.shift()?.whole.bytes.length ?? 0;
  }
}

const beginning = ({ bytes, address }: Memory, length: number): Memory => ({
  bytes: bytes.subarray(0, length),
  address,
});

/** For all frames of this thread. */
export const frameRoom = new FrameRoom(memoryOf);

/**
 * Gives memory of sealed frames back once it is written, to be used again; the caller has no other use for it. Never
 * necessary: whatever is not given back is collected. Anything else is ignored.
 */
export const recycle = (bytes: Uint8Array): void => frameRoom.takeBack(bytes);
