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
  nonce(nr: Uint8Array): Uint8Array {
    const nonce = new Uint8Array(nr.length);
    nonce.set(nr);
    xorUint32(nonce, nonce.length - 8, this.#high);
    xorUint32(nonce, nonce.length - 4, this.#low);
    return nonce;
  }
}

function xorUint32(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = (bytes[at + i] ?? 0) ^ ((value >>> (24 - 8 * i)) & 0xff);
}
