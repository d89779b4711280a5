/** The parsers of what the kernel and tcpdump hand over. */
import assert from 'node:assert/strict';
import { TcpcryptError } from '#src/errors.js';
import { parseMessages } from '#src/kernel/netlink.js';
import { readSegment } from '#src/kernel/segment.js';
import { findOption, parsePcap } from '#src/lab/pcap.js';
import { findEnoOptions } from '#src/wire/index.js';
import type { Random } from '../../support/random.js';
import type { Target } from '../target.js';
import { enoContents } from './wire.js';

const concat = (...pieces: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(pieces));

function tcp(random: Random): Buffer {
  const contents = enoContents(random).slice(0, 36);
  const options = Buffer.alloc((contents.length + 5) & ~3, 1);
  options.set([69, contents.length + 2], 0);
  options.set(contents, 2);
  const header = Buffer.from(random.bytes(20));
  header.writeUInt8((5 + options.length / 4) << 4, 12);
  header.writeUInt8(random.pick([0x02, 0x12, 0x10, 0x18, 0xc2, random.below(256)]), 13);
  return Buffer.concat([header, options, random.bytes(random.below(20))]);
}

/** An IP packet with a TCP segment, or nearly. */
function packet(random: Random): Uint8Array {
  const segment = tcp(random);
  if (random.chance(50)) {
    const header = Buffer.alloc(20 + 4 * random.pick([0, 0, 1, 10]));
    header.writeUInt8(0x40 | (header.length / 4), 0);
    header.writeUInt16BE(header.length + segment.length, 2);
    header.writeUInt16BE(random.pick([0x4000, 0, 0x2000, 1]), 6);
    header.writeUInt8(random.pick([6, 6, 6, 17]), 9);
    header.set(random.bytes(8), 12);
    return concat(header, segment);
  }
  const extensions: Buffer[] = [];
  let next = 6;
  for (let left = random.pick([0, 0, 1, 3]); left > 0; left--) {
    const extension = Buffer.alloc(8 * random.between(1, 3));
    extension.set([next, extension.length / 8 - 1]);
    next = random.pick([0, 43, 60, 44]);
    extensions.unshift(extension);
  }
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  const body = Buffer.concat([...extensions, segment]);
  header.writeUInt16BE(body.length, 4);
  header.writeUInt8(next, 6);
  header.set(random.bytes(32), 8);
  return concat(header, body);
}

const segment: Target = {
  name: 'segment',
  about: 'a packet from its IP header on',
  generate: packet,
  run(input) {
    const read = readSegment(input);
    if (read === undefined) return 'none';
    assert.ok(read.options.byteOffset >= input.byteOffset + 40);
    assert.ok(read.options.byteOffset + read.options.length <= input.byteOffset + input.length);
    assert.ok(read.options.length <= 40 && read.payloadLength >= 0);
    findEnoOptions(read.options);
    return `${read.family} ${read.flags.syn} ${read.options.length > 0}`;
  },
};

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

function netlinkMessage(random: Random): Uint8Array {
  const queue = random.chance(80);
  const attributes = Array.from({ length: random.below(6) }, () =>
    attribute(
      random.pick([1, 3, 10, 16, random.below(20)]),
      random.pick([
        () => random.bytes(4),
        () => random.bytes(7),
        () => packet(random),
        () => new Uint8Array(),
      ])(),
    ),
  );
  const body = queue
    ? concat(random.bytes(4), ...attributes)
    : random.bytes(random.pick([20, 4, random.below(40)]));
  const header = Buffer.alloc(16);
  header.writeUInt32LE(random.chance(90) ? 16 + body.length : random.below(100), 0);
  header.writeUInt16LE(queue ? 0x300 : random.pick([2, random.below(0x400)]), 4);
  return concat(header, body, new Uint8Array(-body.length & 3));
}

const netlink: Target = {
  name: 'netlink',
  about: 'a datagram of NFQUEUE',
  generate: (random) => concat(...Array.from({ length: random.between(1, 3) }, () => netlinkMessage(random))),
  run(input) {
    const messages = parseMessages(Buffer.from(input));
    assert.ok(messages.length <= input.length / 16);
    for (const message of messages) {
      if (message.kind !== 'packet') continue;
      assert.ok(message.payload.length <= input.length);
      readSegment(message.payload);
    }
    return messages
      .map((message) => (message.kind === 'packet' ? `packet ${message.uid === undefined}` : 'status'))
      .slice(0, 3)
      .join();
  },
};

const pcap: Target = {
  name: 'pcap',
  about: 'a capture file',
  generate(random) {
    const little = random.chance(80);
    const u32 = (...values: number[]): Uint8Array => {
      const bytes = Buffer.alloc(4 * values.length);
      for (const [i, value] of values.entries())
        if (little) bytes.writeUInt32LE(value, 4 * i);
        else bytes.writeUInt32BE(value, 4 * i);
      return bytes;
    };
    const frames = Array.from({ length: random.below(4) }, () => {
      const ip = packet(random);
      const type = (ip[0] ?? 0) >> 4 === 4 ? [0x08, 0x00] : [0x86, 0xdd];
      const tag = random.chance(10) ? [0x81, 0x00, 0x00, 0x01] : [];
      const frame = concat(
        random.bytes(12),
        Uint8Array.from([...tag, ...type]),
        ip,
        new Uint8Array(random.below(8)),
      );
      return concat(u32(1, 2, frame.length, frame.length + (random.chance(5) ? 1 : 0)), frame);
    });
    return concat(
      u32(random.pick([0xa1b2c3d4, 0xa1b23c4d, 0xa1b2c3d5]), 0, 0, 0, 65_600, random.pick([1, 1, 1, 101])),
      ...frames,
    );
  },
  run(input) {
    try {
      const segments = parsePcap(input);
      for (const { options, payload } of segments) {
        findOption(options, 69);
        assert.ok(options.length <= 40 && payload.length <= input.length);
      }
      return `${segments.length > 0}`;
    } catch (error) {
      assert.ok(error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_CAPTURE', `${error}`);
      return error.message.replaceAll(/\d+/g, 'n');
    }
  },
};

export const PACKET_TARGETS: readonly Target[] = [segment, netlink, pcap];
