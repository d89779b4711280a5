import { type Memory, memoryOf, TAG_LENGTH } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import {
  decodeFrameHeader,
  decodePlaintextHead,
  FRAME_HEADER_LENGTH,
  type PlaintextHead,
  StreamOffset,
} from '../wire/index.js';
import type { ByteQueue } from './byte-queue.js';
import { Generation, type Keys } from './generation.js';
import type { SessionEvent } from './session-event.js';
import { PLAINTEXT_AT_ONCE } from './tuning.js';

/** Gives memory for `length` bytes, or more. */
export type PlaintextRoom = (length: number) => Uint8Array;

/** flags(1) and the tag: a frame without data (RFC 8548 §3.6). */
const MIN_CLEN = 1 + TAG_LENGTH;

/** Of the frame at hand. */
const header = new Uint8Array(FRAME_HEADER_LENGTH);
const nonce = new Uint8Array(12);

/** Makes application data of frames: the receiving half of RFC 8548 §3.6 to §3.8. */
export class Receiver {
  readonly #offset: StreamOffset;
  #generation: Generation;
  readonly #room: PlaintextRoom;
  readonly #atOnce: number;
  #finReceived = false;

  /**
   * `offset`: bytes of this direction's TCP stream before the first frame: the peer's Init message, or 0.
   * `room`: for the data of all frames that are there, but only `atOnce` bytes of them, unless they are of one frame.
   */
  constructor(
    keys: Keys,
    offset: number | bigint,
    room: PlaintextRoom = Buffer.allocUnsafeSlow,
    atOnce = PLAINTEXT_AT_ONCE,
  ) {
    this.#room = room;
    this.#atOnce = atOnce;
    this.#offset = new StreamOffset(offset);
    this.#generation = Generation.first(keys);
  }

  /** "Remote generation" (RFC 8548 §3.8). */
  get generation(): number {
    return this.#generation.number;
  }

  get finReceived(): boolean {
    return this.#finReceived;
  }

  /**
   * Takes all whole frames off the queue, and adds what they say to `events`: data of frames that follow each other
   * in as few pieces as `atOnce` allows, as in the peer's stream they are one. After an error nothing more can be received; what was
   * authentic before it is among the events.
   *
   * @throws ERR_TCPCRYPT_FRAME_AFTER_FIN, ERR_TCPCRYPT_FRAME_LENGTH, ERR_TCPCRYPT_FRAME_AUTH,
   *   ERR_TCPCRYPT_FRAME_PLAINTEXT
   */
  open(queue: ByteQueue, events: SessionEvent[]): void {
    while (queue.length > 0 && this.#openSome(queue, events));
  }

  erase(): void {
    this.#generation.erase();
  }

  /** As many whole frames as go into one piece of memory. @returns false when there are no more */
  #openSome(queue: ByteQueue, events: SessionEvent[]): boolean {
    const { frames, data } = wholeFrames(queue, this.#atOnce);
    const output = new Output(this.#room, data);
    let more = true;
    try {
      // What is not whole yet can be wrong already.
      for (let i = 0; more && i < Math.max(frames, 1); i++) more = this.#openFrame(queue, output, events);
    } finally {
      output.flush(events);
    }
    return more;
  }

  /** @returns false when there is no whole frame */
  #openFrame(queue: ByteQueue, output: Output, events: SessionEvent[]): boolean {
    if (this.#finReceived && queue.length > 0) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_AFTER_FIN');
    if (queue.length < FRAME_HEADER_LENGTH) return false;
    // As received, reserved bits included (TC-34).
    for (let i = 0; i < FRAME_HEADER_LENGTH; i++) header[i] = queue.byteAt(i);
    const { rekey, clen } = decodeFrameHeader(header);
    if (clen < MIN_CLEN) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_LENGTH', { detail: `clen ${clen}` });
    if (queue.length < FRAME_HEADER_LENGTH + clen) return false;

    queue.skip(FRAME_HEADER_LENGTH);
    const ciphertext = queue.take(clen);
    // The frame with rekey=1 is already encrypted with the new key (RFC 8548 §3.8). The bit came in clear: the
    // generation counts only once the frame proves it.
    const generation = rekey ? this.#generation.next() : this.#generation;
    if (rekey) output.flush(events);
    const authentic = generation.aead.open(
      this.#offset.nonce(generation.nr, nonce),
      header,
      ciphertext,
      output.memory,
      output.place(),
    );
    if (!authentic) {
      if (rekey) generation.erase();
      throw new TcpcryptError('ERR_TCPCRYPT_FRAME_AUTH'); // TC-35
    }
    if (rekey) {
      this.#generation.erase();
      events.push({ type: 'rekeyed', generation: generation.number });
    }
    this.#generation = generation;
    this.#offset.advance(FRAME_HEADER_LENGTH + clen);

    this.#finReceived = output.accept(clen - TAG_LENGTH).fin;
    if (this.#finReceived) {
      this.erase();
      output.flush(events);
      events.push({ type: 'end' });
    }
    return true;
  }
}

/** The whole frames at the front of the queue, and how many bytes their data take; at least one, if there is one. */
function wholeFrames(queue: ByteQueue, most: number): { readonly frames: number; readonly data: number } {
  let frames = 0;
  let data = 0;
  for (let at = 0; at + FRAME_HEADER_LENGTH <= queue.length; frames++) {
    const clen = (queue.byteAt(at + 1) << 8) | queue.byteAt(at + 2);
    at += FRAME_HEADER_LENGTH + clen;
    if (clen < MIN_CLEN || at > queue.length) break;
    if (frames > 0 && data + clen - MIN_CLEN > most) break;
    data += clen - MIN_CLEN;
  }
  return { frames, data };
}

/**
 * Where plaintexts go, so that the data of one stand right behind those of the one before: its flags take the place of
 * the last byte there for as long as they are needed.
 *
 *     | data | data of the last frame     x |
 *     | data | data of the last frame | flags | data of this frame |      place(), decryption
 *     | data | data of the last frame     x | data of this frame |        accept()
 */
class Output {
  readonly #room: PlaintextRoom;
  readonly #capacity: number;
  #memory: Memory | undefined;
  /** Of the data that are not among the events yet. */
  #from = 1;
  #to = 1;
  /** x */
  #displaced: number | undefined;

  constructor(room: PlaintextRoom, capacity: number) {
    this.#room = room;
    this.#capacity = capacity;
  }

  get memory(): Memory {
    this.#memory ??= memoryOf(this.#room(1 + this.#capacity));
    return this.#memory;
  }

  /** Where the next plaintext goes. */
  place(): number {
    this.#displaced = this.memory.bytes[this.#to - 1];
    return this.#to - 1;
  }

  /** The plaintext is there, and authentic. @throws ERR_TCPCRYPT_FRAME_PLAINTEXT */
  accept(length: number): PlaintextHead {
    const { bytes } = this.memory;
    const start = this.#to - 1;
    const head = decodePlaintextHead(bytes, start, start + length);
    this.#restore();
    if (head.length > 1) bytes.copyWithin(this.#to, start + head.length, start + length);
    this.#to += length - head.length;
    return head;
  }

  /** Hands out what has been accepted, and nothing else. */
  flush(events: SessionEvent[]): void {
    if (this.#memory === undefined) return;
    this.#restore();
    if (this.#to > this.#from)
      events.push({ type: 'data', data: this.#memory.bytes.subarray(this.#from, this.#to) });
    this.#from = this.#to;
  }

  #restore(): void {
    if (this.#displaced !== undefined) this.memory.bytes[this.#to - 1] = this.#displaced;
    this.#displaced = undefined;
  }
}
