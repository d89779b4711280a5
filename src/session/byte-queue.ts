import { frameRoom } from '../crypto/index.js';

/** Chosen by us: smaller remainders of a chunk are copied together, so that memory stays near what is queued. */
const COPY_BELOW = 8192;
const BLOCK = 8192;

const NO_BYTES = new Uint8Array();

/**
 * Received bytes that are not used yet: a list of chunks, so that a message that arrives in n parts is joined once
 * and not n times. What waits for more bytes is copied into blocks, unless it is large: neither 65536 chunks of one
 * byte nor one byte of a large chunk may hold more memory than a few times their content.
 */
export class ByteQueue {
  #chunks: Uint8Array[] = [];
  /** How much of the first chunk has been taken. */
  #taken = 0;
  #length = 0;
  /** Room behind the last chunk, when that chunk is a block of ours. */
  #room: Uint8Array = NO_BYTES;
  /** A chunk that must be gone when the queue settles. */
  #lent: Uint8Array | undefined;
  /** Chunks in memory that goes back when they have been taken. */
  #copies: Uint8Array[] = [];

  get length(): number {
    return this.#length;
  }

  /** Takes over `chunk`: nobody may change it afterwards. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** As {@link push}, but only until {@link settle}: then the chunk is its owner's again. */
  lend(chunk: Uint8Array): void {
    this.#lent = chunk;
    this.push(chunk);
  }

  /** The byte at `index`, which must be there. */
  byteAt(index: number): number {
    let at = this.#taken + index;
    for (const chunk of this.#chunks) {
      const byte = chunk[at];
      if (byte !== undefined) return byte;
      at -= chunk.length;
    }
    throw new RangeError('more read than queued');
  }

  /** Up to `count` bytes from the front, without taking them. */
  peek(count: number): Uint8Array {
    const first = this.#chunks[0];
    const to = this.#taken + count;
    if (first !== undefined && first.length >= to) return first.subarray(this.#taken, to);
    return Uint8Array.from({ length: Math.min(count, this.#length) }, (_, i) => this.byteAt(i));
  }

  /** Drops `count` bytes, which must be there. */
  skip(count: number): void {
    this.#length -= count;
    this.#taken += count;
    for (let first = this.#chunks[0]; first !== undefined && this.#taken >= first.length; ) {
      this.#taken -= first.length;
      this.#chunks.shift();
      first = this.#chunks[0];
    }
  }

  /** Takes `count` bytes, which must be there, as views of the chunks: until {@link settle}, if one was lent. */
  take(count: number): Uint8Array[] {
    if (count > this.#length) throw new RangeError('more taken than queued');
    const taken: Uint8Array[] = [];
    let from = this.#taken;
    let left = count;
    for (const chunk of this.#chunks) {
      if (left === 0) break;
      const to = Math.min(from + left, chunk.length);
      taken.push(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
      left -= to - from;
      from = 0;
    }
    this.skip(count);
    return taken;
  }

  /** Takes `count` bytes, which must be there, in one piece. */
  takeJoined(count: number): Uint8Array {
    const pieces = this.take(count);
    const first = pieces[0] ?? NO_BYTES;
    return pieces.length > 1 ? join(pieces, count) : first;
  }

  /** To be called when nothing more can be taken for now, and nothing that was taken is used any more. */
  settle(): void {
    const lent = this.#lent;
    this.#lent = undefined;
    if (this.#copies.length > 0) this.#giveBack();
    const last = this.#chunks.at(-1);
    if (last === undefined) {
      this.#room = NO_BYTES;
      return;
    }
    const taken = this.#chunks.length === 1 ? this.#taken : 0;
    const large = last.length - taken >= COPY_BELOW;
    if ((large && last !== lent) || this.#endsInBlock(last)) return;
    this.#chunks.pop();
    if (taken > 0) this.#taken = 0;
    const rest = taken > 0 ? last.subarray(taken) : last;
    if (large) this.#copy(rest);
    else this.#copyIntoBlock(rest);
  }

  clear(): void {
    this.#copies = [];
    this.#chunks = [];
    this.#taken = 0;
    this.#length = 0;
    this.#room = NO_BYTES;
  }

  /** In bulk there is such a rest of each read, so its memory is used again. */
  #copy(bytes: Uint8Array): void {
    const { bytes: copy } = frameRoom.take(bytes.length);
    copy.set(bytes);
    this.#chunks.push(copy);
    this.#copies.push(copy);
  }

  #giveBack(): void {
    const waiting = this.#copies.filter((copy) => this.#chunks.includes(copy));
    for (const copy of this.#copies) if (!waiting.includes(copy)) frameRoom.takeBack(copy);
    this.#copies = waiting;
  }

  #copyIntoBlock(bytes: Uint8Array): void {
    const before = this.#chunks.at(-1);
    if (before !== undefined && this.#endsInBlock(before) && this.#room.length >= bytes.length) {
      this.#room.set(bytes);
      this.#room = this.#room.subarray(bytes.length);
      this.#chunks[this.#chunks.length - 1] = new Uint8Array(
        before.buffer,
        before.byteOffset,
        before.length + bytes.length,
      );
      return;
    }
    const block = new Uint8Array(BLOCK);
    block.set(bytes);
    this.#room = block.subarray(bytes.length);
    this.#chunks.push(block.subarray(0, bytes.length));
  }

  #endsInBlock(chunk: Uint8Array): boolean {
    return chunk.buffer === this.#room.buffer && chunk.byteOffset + chunk.length === this.#room.byteOffset;
  }
}

function join(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}
