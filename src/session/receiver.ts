import { TAG_LENGTH } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import {
  decodeFrameHeader,
  decodePlaintext,
  FRAME_HEADER_LENGTH,
  type FramePlaintext,
  StreamOffset,
} from '../wire/index.js';
import type { ByteQueue } from './byte-queue.js';
import { Generation, type Keys } from './generation.js';

/** A frame that is authentic. */
export interface ReceivedFrame extends FramePlaintext {
  /** The peer began this key generation with the frame. */
  readonly rekeyed: number | undefined;
}

/** Gives memory for `length` bytes. */
export type PlaintextRoom = (length: number) => Uint8Array;

/** flags(1) and the tag: a frame without data (RFC 8548 §3.6). */
const MIN_CLEN = 1 + TAG_LENGTH;

/** Makes application data of frames: the receiving half of RFC 8548 §3.6 to §3.8. */
export class Receiver {
  readonly #offset: StreamOffset;
  #generation: Generation;
  readonly #room: PlaintextRoom | undefined;
  #finReceived = false;

  /**
   * `offset`: bytes of this direction's TCP stream before the first frame: the peer's Init message, or 0.
   * Without `room` a plaintext takes the place of its ciphertext.
   */
  constructor(keys: Keys, offset: number | bigint, room?: PlaintextRoom) {
    this.#room = room;
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
   * Takes the next frame off the queue; undefined until all of it is there. After an error nothing more can be
   * received.
   *
   * @throws ERR_TCPCRYPT_FRAME_AFTER_FIN, ERR_TCPCRYPT_FRAME_LENGTH, ERR_TCPCRYPT_FRAME_AUTH,
   *   ERR_TCPCRYPT_FRAME_PLAINTEXT
   */
  open(queue: ByteQueue): ReceivedFrame | undefined {
    if (this.#finReceived && queue.length > 0) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_AFTER_FIN');
    if (queue.length < FRAME_HEADER_LENGTH) return undefined;
    const { rekey, clen } = decodeFrameHeader(queue.peek(FRAME_HEADER_LENGTH));
    if (clen < MIN_CLEN) throw new TcpcryptError('ERR_TCPCRYPT_FRAME_LENGTH', { detail: `clen ${clen}` });
    if (queue.length < FRAME_HEADER_LENGTH + clen) return undefined;

    const header = queue.takeJoined(FRAME_HEADER_LENGTH); // as received, reserved bits included (TC-34)
    const ciphertext = queue.take(clen);
    // The frame with rekey=1 is already encrypted with the new key (RFC 8548 §3.8). The bit came in clear: the
    // generation counts only once the frame proves it.
    const generation = rekey ? this.#generation.next() : this.#generation;
    const plaintext = generation.aead.open(
      this.#offset.nonce(generation.nr),
      header,
      ciphertext,
      this.#room?.(clen - TAG_LENGTH),
    );
    if (plaintext === undefined) {
      if (rekey) generation.erase();
      throw new TcpcryptError('ERR_TCPCRYPT_FRAME_AUTH'); // TC-35
    }
    if (rekey) this.#generation.erase();
    this.#generation = generation;
    this.#offset.advance(FRAME_HEADER_LENGTH + clen);

    const { fin, urgent, data } = decodePlaintext(plaintext);
    this.#finReceived = fin;
    if (fin) this.erase();
    return { fin, urgent, data, rekeyed: rekey ? generation.number : undefined };
  }

  erase(): void {
    this.#generation.erase();
  }
}
