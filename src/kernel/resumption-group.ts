/**
 * Sessions that listeners may resume (RFC 8548 §3.5). Which SYN resumes which session is decided in the kernel, so the
 * kernel is told beforehand. One secret, one connection (TC-27): an entry is there until either a SYN or
 * {@link ResumptionGroup.take} has it; the kernel decides who was first.
 *
 *     const group = ResumptionGroup.open();
 *     openEnoSocket(4, { contents, resumeGroup: group.membership(classes) })     a listener
 *     group.add([{ tep, peerHalf, ownHalf, nonce, classes }, …])
 *     group.take(tep, peerHalf)                                                  it is ours, not a SYN's
 *
 * Needs no privilege; nobody else can touch the entries, as nobody else knows the token. When the process is gone
 * no listener looks for its entries any more, and newer ones take their room.
 */
import { randomBytes } from 'node:crypto';
import { openEnoSocket, TCP_CRYPT, TCP_ENO } from './eno-socket.js';
import { close, EACCES, IPPROTO_TCP, tryGetsockopt, trySetsockopt } from './libc.js';

/** `struct tcp_eno_resumable`. */
export interface ResumableEntry {
  /** 0x21 to 0x24. */
  readonly tep: number;
  /** 9 bytes each. */
  readonly peerHalf: Uint8Array;
  readonly ownHalf: Uint8Array;
  /** Random, 0 to 8 bytes; the kernel sends what fits and mixes in the time. */
  readonly nonce: Uint8Array;
  /** Bits; a listener must accept one of them. */
  readonly classes: number;
}

const HALF = 9;
const ENTRY_LENGTH = 32;
const NONCE_MAX = 8;
/** TCP_ENO_RESUMABLE_MAX */
const ENTRIES_AT_ONCE = 8;
const EVERY_CLASS = 0xffff_ffff;

export class ResumptionGroup {
  readonly #token: Uint8Array;
  readonly #fd: number;
  /** On their way to the kernel. */
  readonly #entries = new Uint8Array(ENTRIES_AT_ONCE * ENTRY_LENGTH);

  private constructor(token: Uint8Array, fd: number) {
    this.#token = token;
    this.#fd = fd;
  }

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT, ERR_TCPCRYPT_PLATFORM */
  static open(): ResumptionGroup {
    const token = randomBytes(16);
    // A socket that is never connected: entries are added and taken through it.
    const fd = openEnoSocket(4, { contents: new Uint8Array(), resumeGroup: membership(token, EVERY_CLASS) });
    return new ResumptionGroup(token, fd);
  }

  /** For a listener that resumes the sessions of these classes. */
  membership(classes: number): Uint8Array {
    return membership(this.#token, classes);
  }

  /**
   * What this machine's administrator says (TCP_CRYPT_RESUMPTION): a number that changes when all sessions are to be
   * forgotten; undefined when none may be resumed.
   */
  get generation(): number | undefined {
    const answer = tryGetsockopt(this.#fd, IPPROTO_TCP, TCP_CRYPT.RESUMPTION, 4);
    if (typeof answer !== 'number') return answer.readUInt32LE();
    return answer === -EACCES ? undefined : 0; // the kernel part is gone: nothing is negotiated either
  }

  /** Never add again what was taken, by whomever. Without the kernel part nothing happens. */
  add(entries: readonly ResumableEntry[]): void {
    for (let i = 0; i < entries.length; i += ENTRIES_AT_ONCE) {
      let length = 0;
      for (const entry of entries.slice(i, i + ENTRIES_AT_ONCE)) {
        writeEntry(this.#entries, length, entry);
        length += ENTRY_LENGTH;
      }
      trySetsockopt(this.#fd, IPPROTO_TCP, TCP_ENO.RESUMABLE, this.#entries.subarray(0, length));
    }
  }

  /** @returns false when a SYN has it, or it was forgotten: the secret must not be used for anything else then */
  take(tep: number, peerHalf: Uint8Array): boolean {
    const name = Buffer.concat([Uint8Array.of(tep), peerHalf]);
    return trySetsockopt(this.#fd, IPPROTO_TCP, TCP_ENO.RESUME_TAKE, name) === 0;
  }

  /** Entries stay until others need the room; listeners that are open find them. */
  close(): void {
    close(this.#fd);
  }
}

function membership(token: Uint8Array, classes: number): Uint8Array {
  const bytes = new Uint8Array(token.length + 4);
  bytes.set(token);
  new Uint32Array(bytes.buffer, bytes.byteOffset + token.length, 1)[0] = classes; // the machine's own byte order
  return bytes;
}

function writeEntry(
  bytes: Uint8Array,
  at: number,
  { tep, peerHalf, ownHalf, nonce, classes }: ResumableEntry,
): void {
  bytes[at] = tep;
  for (let i = 0; i < HALF; i++) {
    bytes[at + 1 + i] = peerHalf[i] ?? 0;
    bytes[at + 1 + HALF + i] = ownHalf[i] ?? 0;
  }
  bytes[at + 1 + 2 * HALF] = nonce.length;
  for (let i = 0; i < NONCE_MAX; i++) bytes[at + 2 + 2 * HALF + i] = nonce[i] ?? 0;
  new Uint32Array(bytes.buffer, at + ENTRY_LENGTH - 4, 1)[0] = classes;
}
