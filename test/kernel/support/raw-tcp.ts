/** TCP by hand over a raw socket: a handshake with any options, as the kernel's own TCP will not send them. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  AF_INET,
  AF_INET6,
  bind,
  close,
  IPPROTO_TCP,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_RAW,
  socket,
  systemError,
  tryConnect,
  tryRecv,
  trySend,
} from '#src/kernel/libc.js';
import { addressBytes, sockaddr } from '#src/kernel/sockaddr.js';

export interface RawExchange {
  readonly source: string;
  /** In the range where the test's host lets no RST out, as its kernel knows nothing of this connection. */
  readonly sourcePort: number;
  readonly destination: string;
  readonly port: number;
  /** Whether the SYN carries an ENO option (RFC 8547: kind 69, length 3, TEP 0x21 without suboption data). */
  readonly eno: boolean;
  /** Sent when connected. */
  readonly data?: string;
  /** Send the SYN a second time, 100 ms after the answer to the first has come. */
  readonly synAgain?: boolean;
  /** Give up waiting after this many milliseconds. */
  readonly patience?: number;
}

/** What came of it: the answer to the SYN, and all text that came until `patience` was over or an echo of `data`. */
export interface RawResult {
  readonly answer: 'syn-ack' | 'rst' | 'none';
  readonly text: string;
}

const ENO_OPTION = [69, 3, 0x21, 0];
const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const PSH = 0x08;
const ACK = 0x10;

export async function rawExchange(exchange: RawExchange): Promise<RawResult> {
  const {
    source,
    sourcePort,
    destination,
    port,
    eno,
    data = '',
    synAgain = false,
    patience = 700,
  } = exchange;
  const v6 = source.includes(':');
  const fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
  try {
    bind(fd, sockaddr(source, 0));
    const connected = tryConnect(fd, sockaddr(destination, 0));
    if (connected < 0) throw systemError('connect', -connected);

    let sequence = 1000;
    let acknowledged = 0;
    const send = (flags: number, options: number[], text: string): void => {
      const segment = Buffer.alloc(20 + options.length + text.length);
      segment.writeUInt16BE(sourcePort, 0);
      segment.writeUInt16BE(port, 2);
      segment.writeUInt32BE(sequence, 4);
      segment.writeUInt32BE(acknowledged, 8);
      segment.writeUInt8(((20 + options.length) / 4) << 4, 12);
      segment.writeUInt8(flags, 13);
      segment.writeUInt16BE(65535, 14);
      segment.set(options, 20);
      segment.write(text, 20 + options.length);
      segment.writeUInt16BE(checksum(source, destination, segment), 16);
      const sent = trySend(fd, segment);
      if (sent < 0) throw systemError('send', -sent);
      sequence += text.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
    };

    send(SYN, eno ? ENO_OPTION : [], '');
    let answer: RawResult['answer'] = 'none';
    let text = '';
    const packet = Buffer.alloc(65536);
    for (const end = performance.now() + patience; performance.now() < end; ) {
      const n = tryRecv(fd, packet, MSG_DONTWAIT);
      if (n < 0) {
        await sleep(2);
        continue;
      }
      // A raw IPv4 socket delivers the IP header, too.
      const segment = packet.subarray(v6 ? 0 : (packet.readUInt8(0) & 0x0f) * 4, n);
      if (segment.readUInt16BE(0) !== port || segment.readUInt16BE(2) !== sourcePort) continue;
      const flags = segment.readUInt8(13);
      if ((flags & RST) !== 0) {
        if (answer === 'none') answer = 'rst';
        break;
      }
      if ((flags & SYN) !== 0) {
        if (answer !== 'none') continue;
        answer = 'syn-ack';
        if (synAgain) {
          await sleep(100);
          sequence--;
          send(SYN, eno ? ENO_OPTION : [], '');
          await sleep(100);
        }
        acknowledged = segment.readUInt32BE(4) + 1;
        send(ACK | PSH, [], data);
        continue;
      }
      const payload = segment.subarray((segment.readUInt8(12) >> 4) * 4);
      if (payload.length === 0 || segment.readUInt32BE(4) !== acknowledged) continue;
      acknowledged += payload.length;
      text += payload.toString();
      send(ACK, [], '');
      if (data !== '' && text.endsWith(data)) break;
    }
    if (answer === 'syn-ack') send(RST | ACK, [], '');
    return { answer, text };
  } finally {
    close(fd);
  }
}

/** RFC 9293 §3.1: over the pseudo header and the segment. */
function checksum(source: string, destination: string, segment: Buffer): number {
  const v4 = !source.includes(':');
  const address = (text: string): Buffer => addressBytes(text).subarray(v4 ? 12 : 0);
  const trailer = Buffer.alloc(4);
  trailer.writeUInt16BE(segment.length, 0);
  trailer.writeUInt16BE(IPPROTO_TCP, 2);
  const bytes = Buffer.concat([address(source), address(destination), trailer, segment, Buffer.alloc(1)]);
  let sum = 0;
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
