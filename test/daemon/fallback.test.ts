/** Boxes on the path that meddle with the ENO option: the connection works, plain where it must be. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { Capture } from '#src/lab/capture.js';
import { type CapturedSegment, findOption, isSyn, isSynAck } from '#src/lab/pcap.js';
import { assertSilent, eventually, Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

const ENO = 69;
const hasEno = ({ options }: CapturedSegment): boolean => findOption(options, ENO) !== undefined;

describe('a path that meddles with the option, daemons at both ends', { skip }, () => {
  let pair: Pair;
  let undo: (() => void) | undefined;
  let port = 7300;
  before(async () => {
    pair = await Pair.open('both ends');
  });
  after(() => pair?.close());
  beforeEach(() => {
    // Another port is another destination: the daemon remembers plain ones.
    port++;
    pair.forget();
  });
  afterEach(() => undo?.());

  async function serve(): Promise<void> {
    pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'server'), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
  }

  /** One connection, seen from the router. */
  async function connect(): Promise<CapturedSegment[]> {
    const capture = await Capture.start(pair.lab, pair.alice);
    const { stdout, stderr } = await pair.alice.run(
      ...python(MANY, 'call', pair.bob.address4, `${port}`, 'server', '1', '1'),
      { timeoutMs: 30_000 },
    );
    const segments = await capture.stop();
    assert.equal(JSON.parse(String(stdout)).done, 1, `${stdout} ${stderr}`);
    return segments;
  }

  const plaintextSeen = (segments: CapturedSegment[]): boolean =>
    segments.some(({ payload }) => Buffer.from(payload).includes('hello'));

  /** What the daemons say of the one connection there was. */
  async function logged(event: string) {
    const daemons = [pair.onAlice, pair.onBob];
    await eventually(() => assert.ok(daemons[0]?.lines.some((line) => line.event === event)));
    return daemons.map((daemon) => daemon?.lines.filter((line) => line.event === event)[0]);
  }

  test('without meddling it is encrypted', async () => {
    await serve();
    const segments = await connect();
    assert.ok(segments.filter(isSyn).every(hasEno) && segments.filter(isSynAck).every(hasEno));
    assert.ok(!plaintextSeen(segments));
    await pair.assertRelayed(port);
  });

  test('option stripped from the SYN: plain; bob’s daemon never hears of it', async () => {
    undo = pair.lab.router.middlebox({ stripFrom: 'syn' });
    await serve();
    const segments = await connect();
    assert.ok(plaintextSeen(segments));
    assert.ok(!segments.some((segment) => isSynAck(segment) && hasEno(segment)));
    const [atAlice, atBob] = await logged('plain');
    assert.equal(atAlice?.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
    assert.equal(atBob, undefined);
  });

  test('option stripped from the SYN-ACK: plain at both ends, and both know why', async () => {
    undo = pair.lab.router.middlebox({ stripFrom: 'syn-ack' });
    await serve();
    const segments = await connect();
    assert.ok(plaintextSeen(segments));
    assert.ok(segments.filter(isSyn).every(hasEno));
    const [atAlice, atBob] = await logged('plain');
    assert.equal(atAlice?.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
    assert.equal(atBob?.plainReason, 'ERR_TCPCRYPT_ENO_NO_ACK');
  });

  test('SYN with the option dropped: the retransmission without it connects, in plain TCP', async () => {
    undo = pair.lab.router.middlebox({ dropSynWithOption: true });
    await serve();
    const segments = await connect();
    const syns = segments.filter(isSyn);
    assert.ok(syns[0] !== undefined && hasEno(syns[0]));
    assert.ok(syns.some((segment) => !hasEno(segment)));
    assert.ok(plaintextSeen(segments));
    const [atAlice] = await logged('plain');
    assert.equal(atAlice?.plainReason, 'ERR_TCPCRYPT_ENO_GIVEN_UP');
    // It is remembered: the next one does not wait.
    pair.forget();
    const next = await connect();
    assert.deepEqual(next.filter(isSyn).map(hasEno), [false]);
    await assertSilent(pair.onAlice);
  });

  test('a peer that offers only protocols that nobody here knows: plain', async () => {
    undo = pair.lab.router.middlebox({
      sender: pair.alice,
      replace: { in: 'syn', bytes: [ENO, 5, 0x21, 0x24, 0x23], by: [ENO, 5, 0x7d, 0x7e, 0x7f] },
    });
    await serve();
    const segments = await connect();
    assert.ok(plaintextSeen(segments));
    const [atAlice, atBob] = await logged('plain');
    assert.equal(atAlice?.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
    assert.equal(atBob?.plainReason, 'ERR_TCPCRYPT_ENO_NO_TEP');
  });

  test('option stripped from the first ACKs only: an error at both ends, and no ciphertext for the server', async () => {
    // Host A encrypts, host B may not know: RFC 8547 §4.6 has no remedy. What A sends is a key exchange.
    undo = pair.lab.router.middlebox({ sender: pair.alice, stripFrom: 'ack' });
    await serve();
    const { stdout } = await pair.alice.run(
      ...python(MANY, 'call', pair.bob.address4, `${port}`, 'server', '1', '1'),
    );
    assert.equal(JSON.parse(String(stdout)).failed, 1);
    assert.match(String(stdout), /ConnectionResetError/);
    const [atAlice, atBob] = await logged('end');
    assert.equal(atAlice?.how, 'reset');
    assert.equal(atBob?.code, 'ERR_TCPCRYPT_ENO_ACK_STRIPPED');
    assert.equal(atBob?.bytesReceived, 0);
  });
});

describe('a peer that agrees to encrypt, and then does something else, daemon at the client only', {
  skip,
}, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('the client only');
    pair.kernelPart(pair.bob);
  });
  after(() => pair?.close());

  /** Answers SYNs with the ENO option (TCP_ENO_RAW of include/tcp_eno.h), and then with what is in argv[2]. */
  const IMPOSTOR = `
import socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.IPPROTO_TCP, 1037, bytes([0x23]))
listener.bind(('', int(sys.argv[1])))
listener.listen()
connection, _ = listener.accept()
connection.sendall(bytes.fromhex(sys.argv[2]))
try: connection.shutdown(socket.SHUT_WR)
except OSError: pass # it is reset already, as recv says
try:
    while connection.recv(1000): pass
except ConnectionResetError: print('reset', end='')
`;
  const CASES = [
    ['plaintext', Buffer.from('220 mail.example.org ESMTP\r\n'), 'ERR_TCPCRYPT_INIT_MAGIC'],
    ['nothing at all', Buffer.alloc(0), 'ERR_TCPCRYPT_INIT_TRUNCATED'],
    ['half of a key exchange', Buffer.from('097105e000000031', 'hex'), 'ERR_TCPCRYPT_INIT_TRUNCATED'],
    ['a key exchange without end', Buffer.from('097105e07fffffff', 'hex'), 'ERR_TCPCRYPT_INIT_TOO_LONG'],
  ] as const;
  CASES.forEach(([name, bytes, code], i) => {
    test(`${name}: both ends are reset, the client gets nothing, and nothing of the client's goes out`, async () => {
      const port = 7350 + i;
      const server = pair.bob.run(...python(IMPOSTOR, `${port}`, bytes.toString('hex')));
      await pair.bob.waitForListener(port);
      const capture = await Capture.start(pair.lab, pair.alice);
      const { stdout } = await pair.alice.run(
        ...python(MANY, 'call', pair.bob.address4, `${port}`, 'client', '1', '1'),
      );
      const segments = await capture.stop();
      assert.match(String(stdout), /"failed": 1.*ConnectionResetError/);
      assert.equal(String((await server).stdout), 'reset');
      assert.ok(!segments.some(({ payload }) => Buffer.from(payload).includes('hello')));
      const end = await pair.onAlice?.line(
        ({ event, remote }) => event === 'end' && remote === `${pair.bob.address4}:${port}`,
      );
      assert.equal(end?.code, code);
      assert.equal(end?.bytesReceived, 0);
    });
  });
});

describe('a destination without tcpcrypt, daemon at the client only', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('the client only');
  });
  after(() => pair?.close());

  test('the first connection is probed and relayed, the next ones run past the daemon', async () => {
    pair.bob.spawn(...python(MANY, 'serve', '7301', 'server'), { stdio: 'ignore' });
    await pair.bob.waitForListener(7301);
    const call = (count: number) =>
      pair.alice.run(...python(MANY, 'call', pair.bob.address4, '7301', 'server', `${count}`, '1'));
    const first = await Capture.start(pair.lab, pair.alice);
    await call(1);
    assert.deepEqual((await first.stop()).filter(isSyn).map(hasEno), [true]);
    const later = await Capture.start(pair.lab, pair.alice);
    await call(5);
    const segments = await later.stop();
    assert.equal(segments.filter(isSyn).length, 5);
    assert.ok(!segments.some(hasEno));
    const status = await pair.onAlice?.status();
    assert.equal(status?.outboundPlain, 1);
    assert.equal(status?.outboundKnownPlain, 5);
    assert.equal(status?.relayed, 0);
  });
});
