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
  #length = 0;
  /** Room behind the last chunk, when that chunk is a block of ours. */
  #room: Uint8Array = NO_BYTES;
  /** Of a chunk that must be gone when the queue settles. */
  #lent: ArrayBufferLike | undefined;

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
    this.#lent = chunk.buffer;
    this.push(chunk);
  }

  /** Up to `count` bytes from the front, without taking them. */
  peek(count: number): Uint8Array {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= count) return first.subarray(0, count);
    return join(this.#chunks, Math.min(count, this.#length));
  }

  /** Takes `count` bytes, which must be there, as views of the chunks. */
  take(count: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    let left = count;
    let used = 0;
    while (left > 0) {
      const chunk = this.#chunks[used];
      if (chunk === undefined) throw new RangeError('more taken than queued');
      if (chunk.length > left) {
        taken.push(chunk.subarray(0, left));
        this.#chunks[used] = chunk.subarray(left);
        break;
      }
      taken.push(chunk);
      left -= chunk.length;
      used += 1;
    }
    if (used === 1) this.#chunks.shift();
    else if (used > 1) this.#chunks.splice(0, used);
    this.#length -= count;
    return taken;
  }

  /** Takes `count` bytes, which must be there, in one piece. */
  takeJoined(count: number): Uint8Array {
    const pieces = this.take(count);
    const first = pieces[0] ?? NO_BYTES;
    return pieces.length > 1 ? join(pieces, count) : first;
  }

  /** To be called when nothing more can be taken for now. */
  settle(): void {
    const last = this.#chunks.at(-1);
    const lent = this.#lent;
    this.#lent = undefined;
    if (last === undefined) {
      this.#room = NO_BYTES;
      return;
    }
    if (last.length >= COPY_BELOW) {
      if (last.buffer === lent) this.#chunks[this.#chunks.length - 1] = new Uint8Array(last);
      return;
    }
    if (this.#endsInBlock(last)) return;
    this.#chunks.pop();
    const before = this.#chunks.at(-1);
    if (before !== undefined && this.#endsInBlock(before) && this.#room.length >= last.length) {
      this.#room.set(last);
      this.#room = this.#room.subarray(last.length);
      this.#chunks[this.#chunks.length - 1] = new Uint8Array(
        before.buffer,
        before.byteOffset,
        before.length + last.length,
      );
      return;
    }
    const block = new Uint8Array(BLOCK);
    block.set(last);
    this.#room = block.subarray(last.length);
    this.#chunks.push(block.subarray(0, last.length));
  }

  clear(): void {
    this.#chunks = [];
    this.#length = 0;
    this.#room = NO_BYTES;
  }

  #endsInBlock(chunk: Uint8Array): boolean {
    return chunk.buffer === this.#room.buffer && chunk.byteOffset + chunk.length === this.#room.byteOffset;
  }
}

function join(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    if (at === length) break;
    const part = chunk.subarray(0, length - at);
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
