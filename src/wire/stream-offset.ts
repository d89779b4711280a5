const TWO_32 = 0x1_0000_0000;

/**
 * The index, modulo 2^64, of a frame's control byte in the TCP stream of its direction; the byte behind the SYN
 * has index 0, so Init1 and Init2 count (RFC 8548 §3.6). Two halves of 32 bits: exact over the whole range,
 * and without the cost of bigint.
 */
export class StreamOffset {
  #high: number;
  #low: number;

  constructor(offset: number | bigint) {
    if (typeof offset === 'number' && offset >= 0 && offset < TWO_32) {
      this.#high = 0;
      this.#low = offset;
      return;
    }
    const value = BigInt(offset);
    this.#high = Number((value >> 32n) & 0xffff_ffffn);
    this.#low = Number(value & 0xffff_ffffn);
  }

  /** Moves on by the length of a frame. */
  advance(length: number): void {
    this.#low += length;
    if (this.#low < TWO_32) return;
    this.#low -= TWO_32;
    this.#high = (this.#high + 1) % TWO_32;
  }

  valueOf(): bigint {
    return (BigInt(this.#high) << 32n) | BigInt(this.#low);
  }

  /**
   * The AEAD nonce of the frame here: N = (zeros | offset in 8 bytes) XOR NR (RFC 8548 §3.6).
   * `nr` is the second part of the traffic key, `nonce_len` bytes.
   */
  nonce(nr: Uint8Array, into = new Uint8Array(nr.length)): Uint8Array {
    const zeros = nr.length - 8;
    for (let i = 0; i < nr.length; i++) into[i] = (nr[i] ?? 0) ^ (i < zeros ? 0 : this.#byte(i - zeros));
    return into;
  }

  /** One of the eight bytes, the highest first. */
  #byte(index: number): number {
    return ((index < 4 ? this.#high : this.#low) >>> (24 - 8 * (index % 4))) & 0xff;
  }
}
