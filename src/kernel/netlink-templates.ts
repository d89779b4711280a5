/**
 * The two messages of netlink.ts that every connection takes, made once and filled in where they differ.
 * {@link verdictMessage} and {@link forgetConnectionMessage} are the readable twins; test/kernel/netlink.test.ts keeps them
 * equal.
 */
import { forgetConnectionMessage, verdictMessage } from './netlink.js';
import type { Segment } from './segment.js';
import { writeOwnForm } from './sockaddr.js';

/** Of a verdict: VERDICT_HDR begins with the verdict and the packet's id; then MARK, where there is one. */
const VERDICT = 24;
const ID = 28;
const MARK = 36;

/** Verdicts of one queue. Each is the caller's until the next one. */
export class Verdicts {
  readonly #plain: Buffer;
  readonly #marked: Buffer;

  constructor(queue: number) {
    this.#plain = verdictMessage(queue, 0, 0, undefined);
    this.#marked = verdictMessage(queue, 0, 0, 0);
  }

  /** What becomes of the packet `id`. `mark` replaces the whole mark. */
  on(id: number, verdict: number, mark?: number): Buffer {
    const message = mark === undefined ? this.#plain : this.#marked;
    message.writeUInt32BE(verdict, VERDICT);
    message.writeUInt32BE(id, ID);
    if (mark !== undefined) message.writeUInt32BE(mark >>> 0, MARK);
    return message;
  }
}

/** Of a tuple: addresses in TUPLE_IP, ports in TUPLE_PROTO. */
const PLACES = {
  ipv4: { source: 32, destination: 40, sourcePort: 60, destinationPort: 68 },
  ipv6: { source: 32, destination: 52, sourcePort: 84, destinationPort: 92 },
} as const;

const ANYWHERE = { ipv4: '0.0.0.0', ipv6: '::' } as const;

/** Messages that make connection tracking forget. Each is the caller's until the next one. */
export class ForgetConnection {
  readonly #ipv4: Buffer;
  readonly #ipv6: Buffer;

  constructor() {
    this.#ipv4 = forgetConnectionMessage(nobody('ipv4'));
    this.#ipv6 = forgetConnectionMessage(nobody('ipv6'));
  }

  /** What is remembered under the addresses and ports of `segment`. */
  of({ family, source, destination, sourcePort, destinationPort }: Named): Buffer {
    const message = family === 'ipv4' ? this.#ipv4 : this.#ipv6;
    const places = PLACES[family];
    writeOwnForm(source, message, places.source);
    writeOwnForm(destination, message, places.destination);
    message.writeUInt16BE(sourcePort, places.sourcePort);
    message.writeUInt16BE(destinationPort, places.destinationPort);
    return message;
  }
}

type Named = Pick<Segment, 'family' | 'source' | 'sourcePort' | 'destination' | 'destinationPort'>;

const nobody = (family: Segment['family']): Named => ({
  family,
  source: ANYWHERE[family],
  destination: ANYWHERE[family],
  sourcePort: 0,
  destinationPort: 0,
});
