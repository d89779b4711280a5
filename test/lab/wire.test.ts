/** Captures and misbehaving routers, with segments made by hand: no TCP-ENO is needed to test them. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import { type CapturedSegment, findOption, isSyn, isSynAck, streamBytes } from '#src/lab/pcap.js';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const ENO = 69;

/** Sends one segment per line of standard input, "flags options" in hexadecimal, with a correct checksum. */
const SEND_SEGMENTS = `
import socket, struct, sys
source, destination = sys.argv[1:]
family = socket.AF_INET6 if ':' in source else socket.AF_INET
raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((source, 0))
for line in sys.stdin:
    flags, options = (bytes.fromhex(word) for word in line.split())
    segment = struct.pack('!HHIIBBHHH', 8080, 7000, 1, 0, 5 + len(options) // 4 << 4, flags[0], 65535, 0, 0) + options
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    data = addresses + struct.pack('!II', len(segment), 6) + segment
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    segment = segment[:16] + struct.pack('!H', ~total & 0xffff) + segment[18:]
    raw.sendto(segment, (destination, 0))
`;
const SYN = '02';
const ECN_SYN = 'c2';
const SYN_ACK = '12';
const ACK = '10';
const OFFER_X25519 = '020405b4 450323 01';

describe('the wire of a lab', { skip }, () => {
  let lab: Lab;
  let alice: Host;
  let bob: Host;
  before(async () => {
    lab = await Lab.create();
    alice = lab.host('alice');
    bob = lab.host('bob');
  });
  after(() => lab.destroy());

  /** What bob's side of the wire shows of hand-made segments that alice sends. */
  async function received(segments: readonly (readonly [string, string])[], family: 'address4' | 'address6') {
    const capture = await Capture.start(lab, bob);
    const input = segments.map(([flags, options]) => `${flags} ${options.replaceAll(' ', '')}\n`).join('');
    const { code, stderr } = await alice.run('python3', ['-c', SEND_SEGMENTS, alice[family], bob[family]], {
      input,
    });
    assert.equal(code, 0, stderr);
    return (await capture.stop()).filter(({ source }) => source === alice[family]);
  }

  /** TCP segments that bob discarded since the lab began. */
  function checksumErrors(): string | undefined {
    const [names, values] = bob
      .enter('cat', ['/proc/net/snmp'])
      .split('\n')
      .filter((line) => line.startsWith('Tcp:'))
      .map((line) => line.split(' '));
    return values?.[names?.indexOf('InCsumErrors') ?? -1];
  }

  const flagsAndEno = (segments: CapturedSegment[]) =>
    segments.map(({ flags, options }) => {
      const eno = findOption(options, ENO);
      return `${flags} ${eno === undefined ? 'none' : Buffer.from(eno).toString('hex')}`;
    });

  test('a capture holds a whole connection, to its last segment', async () => {
    const capture = await Capture.start(lab, alice);
    const server = bob.spawn('nc', ['-lN', '7000'], { stdio: ['pipe', 'ignore', 'inherit'] });
    server.stdin?.end('answer');
    await bob.waitForListener(7000);
    const input = Buffer.alloc(200_000, 'question ');
    await alice.run('nc', ['-N', bob.address4, '7000'], { input });
    const segments = await capture.stop();
    const [a, b] = [{ address: alice.address4 }, { address: bob.address4, port: 7000 }];
    assert.ok(streamBytes(segments, a, b).equals(input));
    assert.equal(String(streamBytes(segments, b, a)), 'answer');
    assert.equal(segments.filter(isSyn).length, 1);
    assert.equal(segments.filter(isSynAck).length, 1);
    assert.equal(segments.filter(({ flags }) => flags.includes('F')).length, 2);
    assert.ok(!existsSync(capture.file));
  });

  test('a capture can be kept for other tools', async () => {
    const file = `${lab.directory}/kept.pcap`;
    await (await Capture.start(lab, alice, { file })).stop();
    const { stdout } = await lab.router.run('tcpdump', ['-r', file, '-n', 'udp']);
    assert.match(String(stdout), /10\.69\.1\.1\.9: UDP/, 'the mark of its end');
  });

  test('a capture that cannot be taken says why', async () => {
    await assert.rejects(Capture.start(lab, alice, { file: '/nonexistent/x.pcap' }), {
      code: 'ERR_TCPCRYPT_LAB',
      message: /No such file/,
    });
  });

  for (const family of ['address4', 'address6'] as const)
    describe(`middlebox, IPv${family.at(-1)}`, () => {
      const all = [
        [SYN, OFFER_X25519],
        [ECN_SYN, OFFER_X25519],
        [SYN_ACK, '450401 23'],
        [ACK, '4502 0101'],
        [SYN, '020405b4'],
      ] as const;
      const untouched = ['S 23', 'SEW 23', 'S. 0123', '. ', 'S none'];
      let undo = () => {};
      beforeEach(() => {
        undo();
        undo = () => {};
      });
      after(() => undo());

      test('none: options arrive as they were sent', async () => {
        assert.deepEqual(flagsAndEno(await received(all, family)), untouched);
      });

      for (const [stripFrom, expected] of [
        ['syn', ['S none', 'SEW none', 'S. 0123', '. ', 'S none']],
        ['syn-ack', ['S 23', 'SEW 23', 'S. none', '. ', 'S none']],
        ['ack', ['S 23', 'SEW 23', 'S. 0123', '. none', 'S none']],
      ] as const)
        test(`strips option 69 from ${stripFrom} segments, and nothing else`, async () => {
          undo = lab.router.middlebox({ stripFrom });
          const before = checksumErrors();
          const segments = await received(all, family);
          assert.deepEqual(flagsAndEno(segments), expected);
          assert.equal(checksumErrors(), before, 'the checksum is corrected');
          assert.deepEqual(
            segments.map(({ options }) => options.length),
            [8, 8, 4, 4, 4],
          );
        });

      test('drops SYN segments that carry option 69, and only those', async () => {
        undo = lab.router.middlebox({ dropSynWithOption: true });
        assert.deepEqual(flagsAndEno(await received(all, family)), ['S. 0123', '. ', 'S none']);
      });

      test('replaces what is offered', async () => {
        undo = lab.router.middlebox({ replace: { in: 'syn', bytes: [ENO, 3, 0x23], by: [ENO, 3, 0x21] } });
        assert.deepEqual(flagsAndEno(await received(all, family)), ['S 21', 'SEW 21', ...untouched.slice(2)]);
      });

      test('may look at one sender only, and several add up', async () => {
        const undoBob = lab.router.middlebox({ sender: bob, dropSynWithOption: true });
        const undoAlice = lab.router.middlebox({ sender: alice, stripFrom: ['syn', 'syn-ack'] });
        undo = () => {
          undoBob();
          undoAlice();
        };
        assert.deepEqual(flagsAndEno(await received(all, family)), [
          'S none',
          'SEW none',
          'S. none',
          '. ',
          'S none',
        ]);
      });

      test('undone, leaves no trace', async () => {
        lab.router.middlebox({ stripFrom: 'syn' })();
        assert.deepEqual(flagsAndEno(await received(all, family)), untouched);
      });
    });

  test('a real connection survives the change of its options', async () => {
    // SACK permitted (kind 4), in place of which come two no-operations.
    const undo = lab.router.middlebox({
      stripFrom: 'syn',
      replace: { in: 'syn', bytes: [4, 2], by: [1, 1] },
    });
    const capture = await Capture.start(lab, bob);
    bob.spawn('nc', ['-l', '7001'], { stdio: 'ignore' });
    await bob.waitForListener(7001);
    const { code } = await alice.run('nc', ['-N', bob.address4, '7001'], { input: 'hello' });
    undo();
    const syn = (await capture.stop()).find(isSyn);
    assert.equal(code, 0);
    assert.ok(syn !== undefined && findOption(syn.options, 4) === undefined);
  });

  test('a replacement must fit', () => {
    for (const replace of [
      { in: 'syn', bytes: [], by: [] },
      { in: 'syn', bytes: [1], by: [1, 2] },
      { in: 'syn', bytes: Array(17).fill(1), by: Array(17).fill(2) },
    ] as const)
      assert.throws(() => lab.router.middlebox({ replace }), { code: 'ERR_TCPCRYPT_ARGUMENT' });
  });
});
