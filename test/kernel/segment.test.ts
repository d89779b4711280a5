import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findOption, readSegment } from '#src/kernel/segment.js';
import { addressBytes } from '#src/kernel/sockaddr.js';

const SYN_ECN = 0x02 | 0x40 | 0x80;

/** A TCP header with `options` and ports 4660 and 80. */
function tcp(flags: number, options: number[] = []): Buffer {
  const header = Buffer.alloc(20 + options.length);
  header.writeUInt16BE(4660, 0);
  header.writeUInt16BE(80, 2);
  header.writeUInt32BE(0xfedcba98, 4);
  header.writeUInt8(((20 + options.length) / 4) << 4, 12);
  header.writeUInt8(flags, 13);
  header.set(options, 20);
  return header;
}

function ipv4(
  body: Buffer,
  { totalLength = 20 + body.length, fragment = 0x4000, protocol = 6 } = {},
): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt8(0xb8, 1);
  header.writeUInt8(33, 8);
  header.writeUInt16BE(totalLength, 2);
  header.writeUInt16BE(fragment, 6);
  header.writeUInt8(protocol, 9);
  header.set(addressBytes('192.0.2.1').subarray(12), 12);
  header.set(addressBytes('198.51.100.7').subarray(12), 16);
  return Buffer.concat([header, body]);
}

function ipv6(body: Buffer, nextHeader = 6, payloadLength = body.length): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt16BE(0x6b80, 0);
  header.writeUInt8(33, 7);
  header.writeUInt16BE(payloadLength, 4);
  header.writeUInt8(nextHeader, 6);
  header.set(addressBytes('2001:db8::1'), 8);
  header.set(addressBytes('2001:db8::2'), 24);
  return Buffer.concat([header, body]);
}

test('IPv4: addresses, ports, flags and options; an ECN SYN is a SYN', () => {
  const options = [2, 4, 5, 180, 69, 3, 0x21, 1];
  const segment = readSegment(ipv4(tcp(SYN_ECN, options)));
  assert.deepEqual(segment && { ...segment, options: [...segment.options] }, {
    family: 'ipv4',
    source: '192.0.2.1',
    destination: '198.51.100.7',
    trafficClass: 0xb8,
    hops: 33,
    sourcePort: 4660,
    destinationPort: 80,
    sequence: 0xfedcba98,
    flags: { syn: true, ack: false, rst: false, fin: false },
    options,
    payloadLength: 0,
  });
});

test('IPv6: also behind extension headers', () => {
  const hopByHopAndDestination = Buffer.from([60, 0, 1, 4, 0, 0, 0, 0, 6, 1, ...new Array(14).fill(0)]);
  for (const packet of [ipv6(tcp(0x12)), ipv6(Buffer.concat([hopByHopAndDestination, tcp(0x12)]), 0)]) {
    const segment = readSegment(packet);
    assert.equal(segment?.source, '2001:db8::1');
    assert.equal(segment.destination, '2001:db8::2');
    assert.deepEqual([segment.trafficClass, segment.hops], [0xb8, 33]);
    assert.deepEqual(segment.flags, { syn: true, ack: true, rst: false, fin: false });
    assert.equal(segment.payloadLength, 0);
  }
});

test('an option is found by its kind; a list that is broken ends where it breaks', () => {
  const find = (options: number[], kind: number) => {
    const segment = readSegment(ipv4(tcp(SYN_ECN, options)));
    const found = segment && findOption(segment, kind);
    return found && [...found];
  };
  assert.deepEqual(find([1, 2, 4, 5, 180, 19, 2, 0], 19), []);
  assert.deepEqual(find([2, 4, 5, 180, 30, 4, 0x10, 0], 30), [0x10, 0]);
  assert.equal(find([2, 4, 5, 180], 30), undefined);
  assert.equal(find([0, 30, 2, 0], 30), undefined, 'after the end of the list');
  assert.equal(find([30, 9, 1, 1], 30), undefined, 'longer than the list');
  assert.equal(find([2, 1, 30, 2], 30), undefined, 'behind one that is too short');
});

test('data that was not captured counts by the IP header', () => {
  assert.equal(readSegment(ipv4(tcp(0x02), { totalLength: 20 + 20 + 1000 }))?.payloadLength, 1000);
  assert.equal(readSegment(ipv6(tcp(0x02), 6, 20 + 1000))?.payloadLength, 1000);
});

test('no segment: other protocols, fragments, lengths that contradict each other', () => {
  assert.equal(readSegment(ipv4(tcp(0x02), { protocol: 17 })), undefined);
  assert.equal(readSegment(ipv4(tcp(0x02), { fragment: 0x2000 })), undefined);
  assert.equal(readSegment(ipv4(tcp(0x02), { fragment: 0x0001 })), undefined);
  assert.equal(readSegment(ipv4(tcp(0x02), { totalLength: 39 })), undefined);
  assert.equal(readSegment(ipv6(tcp(0x02), 44)), undefined);
  assert.equal(readSegment(ipv6(tcp(0x02), 6, 19)), undefined);
});

test('no segment: truncated anywhere within the headers', () => {
  const options = [69, 3, 0x21, 1];
  for (const whole of [ipv4(tcp(0x02, options)), ipv6(tcp(0x02, options))]) {
    assert.ok(readSegment(whole));
    for (let length = 0; length < whole.length; length++)
      assert.equal(readSegment(whole.subarray(0, length)), undefined);
  }
});

test('arbitrary bytes never throw, and what is read lies within them', () => {
  const anyBytes = fc.uint8Array({ maxLength: 120 });
  const likely = fc
    .tuple(fc.constantFrom(0x45, 0x46, 0x4f, 0x60), anyBytes, fc.constantFrom(6, 0, 43, 60, 44))
    .map(([first, bytes, protocol]) => {
      bytes.set([first].slice(0, bytes.length));
      if (bytes.length > 9) {
        bytes[6] = first === 0x60 ? protocol : 0;
        bytes[7] = 0;
        bytes[9] = 6;
      }
      return bytes;
    });
  fc.assert(
    fc.property(fc.oneof(anyBytes, likely), (bytes) => {
      const segment = readSegment(bytes);
      if (segment === undefined) return;
      assert.ok(segment.payloadLength >= 0);
      assert.ok(segment.options.length <= 40);
      assert.ok(segment.options.byteOffset + segment.options.length <= bytes.byteOffset + bytes.length);
    }),
    { numRuns: 5000 },
  );
});
