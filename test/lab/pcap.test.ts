import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TcpcryptError } from '#src/errors.js';
import { type CapturedSegment, findOption, isSyn, isSynAck, parsePcap, streamBytes } from '#src/lab/pcap.js';

type Form = { littleEndian: boolean; nanoseconds: boolean };

function pcap(frames: Uint8Array[], form: Form = { littleEndian: true, nanoseconds: false }): Buffer {
  const u32 = (...values: number[]) => {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, i) => {
      if (form.littleEndian) bytes.writeUInt32LE(value, i * 4);
      else bytes.writeUInt32BE(value, i * 4);
    });
    return bytes;
  };
  const header = u32(form.nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4, 0, 0, 0, 65600, 1);
  const fraction = form.nanoseconds ? 500_000_000 : 500_000;
  return Buffer.concat([
    header,
    ...frames.flatMap((frame) => [u32(1_700_000_000, fraction, frame.length, frame.length), frame]),
  ]);
}

const MAC = '020000000001020000000002';
const tcpHeader = (offsetAndFlags: string) => `1f90 1a0b 01020304 a1a2a3a4 ${offsetAndFlags} ffff 0000 0000`;
const bytes = (hex: string) => Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');

const ENO = '4503 23 01'; // one TEP, and a no-operation as padding
const synOverIpv4 = bytes(
  `${MAC} 0800 4500 002c 0000 4000 40 06 0000 0a450101 0a450201 ${tcpHeader('60 c2')} ${ENO}`,
);
const dataOverIpv6 = bytes(
  `${MAC} 86dd 60000000 0020 00 40
   fd690001000000000000000000000001 fd690002000000000000000000000001
   06 00 000000000000 ${tcpHeader('50 18')} 68656c6f`,
);

for (const littleEndian of [true, false])
  for (const nanoseconds of [true, false])
    test(`reads ${littleEndian ? 'little' : 'big'}-endian files with ${nanoseconds ? 'nano' : 'micro'}seconds`, () => {
      const [segment, ...others] = parsePcap(pcap([synOverIpv4], { littleEndian, nanoseconds }));
      assert.deepEqual(segment, {
        time: 1_700_000_000.5,
        source: '10.69.1.1',
        sourcePort: 8080,
        destination: '10.69.2.1',
        destinationPort: 6667,
        seq: 0x01020304,
        ack: 0xa1a2a3a4,
        flags: 'SEW',
        options: bytes(ENO),
        payload: Buffer.alloc(0),
      });
      assert.equal(others.length, 0);
      assert.ok(segment && isSyn(segment) && !isSynAck(segment), 'a SYN with ECN flags is a SYN');
    });

test('reads IPv6 with extension headers', () => {
  const [segment] = parsePcap(pcap([Buffer.from(dataOverIpv6).fill(0, 20, 21)]));
  assert.equal(segment?.source, 'fd69:1::1');
  assert.equal(segment?.destination, 'fd69:2::1');
  assert.equal(segment?.flags, 'P.');
  assert.equal(String(segment?.payload), 'helo');
});

test('leaves out the padding of short Ethernet frames', () => {
  const padded = Buffer.concat([synOverIpv4, Buffer.alloc(6, 0xff)]);
  assert.equal(parsePcap(pcap([padded]))[0]?.payload.length, 0);
});

test('leaves out what is not TCP', () => {
  const arp = bytes(`${MAC} 0806 0001`);
  const udp = bytes(`${MAC} 0800 4500 001c 0000 0000 40 11 0000 0a450101 0a450201 0009 0009 0008 0000`);
  assert.deepEqual(parsePcap(pcap([arp, udp, Buffer.alloc(3)])), []);
});

test('refuses what would be no evidence: truncated, malformed and fragmented segments', () => {
  const refused = (file: Uint8Array, detail: RegExp) =>
    assert.throws(
      () => parsePcap(file),
      (error) =>
        error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_CAPTURE' && detail.test(error.message),
    );
  const changed = (offset: number, value: number) => {
    const frame = Buffer.from(synOverIpv4);
    frame[offset] = value;
    return pcap([frame]);
  };
  refused(Buffer.from('not a capture'), /not a pcap file/);
  refused(pcap([synOverIpv4]).subarray(0, -1), /expected/);
  refused(changed(17, 0xff), /expected/); // total length beyond the frame
  refused(changed(14, 0x44), /IPv4 header/);
  refused(changed(20, 0x20), /fragment/); // more fragments
  refused(changed(46, 0x40), /data offset/);
  refused(changed(46, 0xf0), /expected/);
  const snapped = pcap([synOverIpv4]);
  snapped.writeUInt32LE(2000, 24 + 12); // original length
  refused(snapped, /not captured/);
});

test('property: arbitrary bytes are parsed or refused with the documented error', () => {
  const harmless = (file: Uint8Array) => {
    try {
      parsePcap(file);
    } catch (error) {
      assert.ok(error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_CAPTURE', String(error));
    }
  };
  const frames = [synOverIpv4, dataOverIpv6];
  const mutation = fc.record({ at: fc.nat(), value: fc.nat(255) });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), harmless), { numRuns: 500 });
  fc.assert(
    fc.property(fc.array(mutation, { maxLength: 6 }), fc.nat(), (mutations, cut) => {
      const file = pcap(frames);
      for (const { at, value } of mutations) file[at % file.length] = value;
      harmless(file.subarray(0, file.length - (cut % 40)));
    }),
    { numRuns: 2000 },
  );
});

test('findOption walks no-operations and other options, and stops at the end and at nonsense', () => {
  assert.deepEqual(findOption(bytes('020405b4 01 01 4503 23'), 69), bytes('23'));
  assert.deepEqual(findOption(bytes('4502'), 69), Buffer.alloc(0));
  assert.equal(findOption(bytes('020405b4'), 69), undefined);
  assert.equal(findOption(bytes('00 4502'), 69), undefined);
  assert.equal(findOption(bytes('4503'), 69), undefined);
  assert.equal(findOption(bytes('4500'), 69), undefined);
  assert.equal(findOption(bytes('45'), 69), undefined);
});

test('property: findOption ends for arbitrary option areas', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(255), (options, kind) => {
      findOption(options, kind);
    }),
  );
});

const from = { address: 'a', port: 1 };
const to = { address: 'b', port: 2 };
const segment = (seq: number, flags: string, payload = ''): CapturedSegment => ({
  time: 0,
  source: 'a',
  sourcePort: 1,
  destination: 'b',
  destinationPort: 2,
  seq,
  ack: 0,
  flags,
  options: Buffer.alloc(0),
  payload: Buffer.from(payload),
});

test('property: streamBytes restores the stream from any order, overlap and sequence number', () => {
  const text = 'the quick brown fox jumps over the lazy dog';
  const piece = fc.record({ start: fc.nat(text.length - 1), length: fc.integer({ min: 1, max: 9 }) });
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.array(piece), fc.boolean(), (isn, pieces, withSyn) => {
      const at = (start: number, length: number) =>
        segment((isn + 1 + start) >>> 0, '.', text.slice(start, start + length));
      const whole = Array.from({ length: Math.ceil(text.length / 5) }, (_, i) => at(i * 5, 5));
      const extra = pieces.map(({ start, length }) => at(start, length));
      const all = [...extra, ...whole, ...(withSyn ? [segment(isn, 'S')] : [])];
      assert.equal(String(streamBytes(all, from, to)), text);
    }),
  );
});

test('streamBytes selects a direction and, if several connections match, refuses', () => {
  const there = segment(10, '.', 'there');
  const back = {
    ...segment(50, '.', 'back'),
    source: 'b',
    sourcePort: 2,
    destination: 'a',
    destinationPort: 1,
  };
  assert.equal(String(streamBytes([there, back], from, to)), 'there');
  assert.equal(String(streamBytes([there, back], to, { address: 'a' })), 'back');
  assert.equal(streamBytes([there], { address: 'c' }, to).length, 0);
  const another = { ...there, sourcePort: 9 };
  assert.throws(() => streamBytes([there, another], { address: 'a' }, to), { code: 'ERR_TCPCRYPT_ARGUMENT' });
  const again = segment(99, 'S');
  assert.throws(() => streamBytes([segment(1, 'S'), again], from, to), { code: 'ERR_TCPCRYPT_ARGUMENT' });
});

test('streamBytes counts the data of a SYN (TCP Fast Open), ignores a keep-alive, and misses nothing silently', () => {
  const open = segment(10, 'S', 'ab');
  assert.equal(String(streamBytes([open, segment(13, '.', 'cd')], from, to)), 'abcd');
  assert.equal(String(streamBytes([open, segment(13, '.', 'cd'), segment(12, '.', 'x')], from, to)), 'abcd');
  assert.throws(() => streamBytes([open, segment(14, '.', 'd')], from, to), { code: 'ERR_TCPCRYPT_CAPTURE' });
});
