/**
 * A peer that knows the keys and no manners: it speaks tcpcrypt (RFC 8548) as src/session does, made of the same parts
 * below, but sends what it is told to, also what no honest peer would.
 */
import { type KeyPair, nodeAead } from '#src/crypto/index.js';
import type { ResumableSession, Role } from '#src/session/index.js';
import { type Direction, type MasterKey, SessionSecret } from '#src/session/key-schedule.js';
import {
  AEADS,
  type AeadId,
  decodeInit1,
  decodeInit2,
  encodeInit1,
  encodeInit2,
  isAeadId,
  StreamOffset,
  type TepId,
} from '#src/wire/index.js';
import { seal } from '../support/aead.js';

export interface LooseFrame {
  /** Bit 0 says rekey; `step` does it. */
  readonly control: number;
  readonly step: boolean;
  readonly plaintext: Uint8Array;
}

interface Framing {
  masterKey: MasterKey;
  readonly direction: Direction;
  readonly cipher: AeadId;
  readonly offset: StreamOffset;
}

export interface LooseFresh {
  readonly role: Role;
  readonly tep: TepId;
  readonly transcript: Uint8Array;
  readonly keyPair: KeyPair;
  /** Role A: what Init1 says, any numbers; role B: what is chosen, if that was offered. */
  readonly ciphers: readonly number[];
  /** Bytes behind the fields of our Init message. */
  readonly ignored: Uint8Array;
}

export interface LooseResumed {
  readonly kept: ResumableSession;
  readonly sn: Uint8Array;
}

const NONCE = new Uint8Array(32).fill(7);

export class LoosePeer {
  /** What it wants to be sent, not taken yet. */
  readonly out: Uint8Array[] = [];
  readonly #fresh: LooseFresh | undefined;
  #init1: Uint8Array = new Uint8Array();
  #heard = Buffer.alloc(0);
  #framing: Framing | undefined;

  constructor(how: LooseFresh | LooseResumed) {
    if ('kept' in how) {
      const { kept, sn } = how;
      const masterKey = SessionSecret.restore(kept.secret).masterKey(sn);
      this.#framing = {
        masterKey,
        direction: kept.originalRole === 'A' ? 'ab' : 'ba',
        cipher: kept.cipher,
        offset: new StreamOffset(0),
      };
      return;
    }
    this.#fresh = how;
    if (how.role === 'B') return;
    const message = { ciphers: how.ciphers, nonce: NONCE, publicKey: how.keyPair.publicKey };
    this.#init1 = longer(encodeInit1(how.tep, message), how.ignored);
    this.out.push(this.#init1);
  }

  /** Keys are there. */
  get ready(): boolean {
    return this.#framing !== undefined;
  }

  /** What the victim sends. Only its Init message is of interest. */
  hear(bytes: Uint8Array): void {
    const fresh = this.#fresh;
    if (fresh === undefined || this.#framing !== undefined) return;
    this.#heard = Buffer.concat([this.#heard, bytes]);
    const { tep, transcript, keyPair, role } = fresh;
    let init2: Uint8Array;
    let cipher: number;
    let es: Uint8Array;
    let nonceA = NONCE;
    if (role === 'A') {
      const decoded = decodeInit2(tep, this.#heard);
      if (!decoded.complete) return;
      init2 = this.#heard.subarray(0, decoded.length);
      cipher = decoded.message.cipher;
      es = keyPair.agree(decoded.message.publicKey);
    } else {
      const decoded = decodeInit1(tep, this.#heard);
      if (!decoded.complete) return;
      this.#init1 = this.#heard.subarray(0, decoded.length);
      cipher = fresh.ciphers.find((id) => decoded.message.ciphers.includes(id)) ?? 1;
      nonceA = Buffer.from(decoded.message.nonce);
      init2 = longer(encodeInit2(tep, { cipher, nonce: NONCE, publicKey: keyPair.publicKey }), fresh.ignored);
      es = keyPair.agree(decoded.message.publicKey);
      this.out.push(init2);
    }
    const secret = SessionSecret.ofKeyExchange({ transcript, nonceA, init1: this.#init1, init2, es });
    this.#framing = {
      masterKey: secret.masterKey(new Uint8Array()),
      direction: role === 'A' ? 'ab' : 'ba',
      cipher: isAeadId(cipher) ? cipher : 1,
      offset: new StreamOffset(role === 'A' ? this.#init1.length : init2.length),
    };
  }

  /** Seals one frame, authentic whatever it says. */
  send({ control, step, plaintext }: LooseFrame): Uint8Array {
    const framing = this.#framing;
    if (framing === undefined) return new Uint8Array();
    if (step) framing.masterKey = framing.masterKey.next();
    const key = framing.masterKey.trafficKey(framing.direction, framing.cipher);
    const clen = plaintext.length + AEADS[framing.cipher].tagLength;
    const header = Uint8Array.of(control, clen >> 8, clen & 0xff);
    const frame = seal(key.aead(nodeAead), framing.offset.nonce(key.nr), header, [plaintext]);
    framing.offset.advance(frame.length);
    this.out.push(frame);
    return frame;
  }
}

/** With an "ignored" field (RFC 8548 §4.1). */
function longer(message: Uint8Array, ignored: Uint8Array): Uint8Array {
  const bytes = Buffer.concat([message, ignored]);
  bytes.writeUInt32BE(bytes.length, 4);
  return new Uint8Array(bytes);
}
