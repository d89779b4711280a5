/** However many connections come at once, and whatever their ports were used for before: each is encrypted. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Capture } from '#src/lab/capture.js';
import { type CapturedSegment, findOption, isSyn, isSynAck } from '#src/lab/pcap.js';
import { BURST } from './support/burst.js';
import { Pair, python, skip } from './support/pair.js';

const ENO = 69;
const hasEno = ({ options }: CapturedSegment): boolean => findOption(options, ENO) !== undefined;

async function serve(pair: Pair, port: number): Promise<void> {
  pair.bob.spawn(...python(BURST, 'serve', `${port}`), { stdio: 'ignore' });
  await pair.bob.waitForListener(port);
}

async function burst(pair: Pair, port: number, count: number, rounds: number): Promise<void> {
  const { stdout, stderr } = await pair.alice.run(
    ...python(BURST, 'call', pair.bob.address4, `${port}`, `${count}`, `${rounds}`),
    { timeoutMs: 60_000 },
  );
  const all = count * rounds;
  assert.deepEqual(JSON.parse(String(stdout) || '{}'), { echoed: all, ended: all }, stderr);
}

/** So few ports that each of them is used again, while the far host still remembers its last connection. */
function fewPorts(pair: Pair, count: number): void {
  const range = `40000 ${40000 + count - 1}`;
  pair.alice.enter('sh', ['-c', `echo ${range} > /proc/sys/net/ipv4/ip_local_port_range`]);
}

/** On the wire, not those of the server's leg to bob's daemon. */
const timeWaits = (pair: Pair, port: number): number =>
  pair.bob.enter('ss', ['-Htn', 'state', 'time-wait', `( sport = :${port} and dport >= :40000 )`]).split('\n')
    .length - 1;

describe('many connections at the same instant, daemons at both ends', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends');
  });
  after(() => pair?.close());
  beforeEach(() => pair.forget());

  test('500 SYNs at once are answered with ENO, every one of them', async () => {
    const [port, count, rounds] = [7801, 500, 1];
    await serve(pair, port);
    const capture = await Capture.start(pair.lab, pair.alice);
    await burst(pair, port, count, rounds);
    const segments = await capture.stop();
    assert.ok(segments.filter(isSyn).length >= count * rounds);
    assert.deepEqual(
      segments.filter((segment) => isSyn(segment) && !hasEno(segment)),
      [],
    );
    assert.deepEqual(
      segments.filter((segment) => isSynAck(segment) && !hasEno(segment)),
      [],
    );
    await pair.assertRelayed(port, count * rounds);
  });

  test('a port whose last connection, an encrypted one, is in TIME_WAIT at the server', async () => {
    const [port, count, rounds] = [7802, 40, 5];
    fewPorts(pair, 230);
    await serve(pair, port);
    await burst(pair, port, count, rounds);
    assert.ok(timeWaits(pair, port) < count * rounds, 'ports were used again');
    await pair.assertRelayed(port, count * rounds);
  });
});

describe('connections from before the daemons, still in TIME_WAIT at the server', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('neither end');
  });
  after(() => pair?.close());

  test('the next ones from the same ports are encrypted', async () => {
    const [port, count] = [7803, 60];
    // One for each application, one for the daemon's connection, and some to spare; all of them used before.
    fewPorts(pair, 2 * count + 20);
    await serve(pair, port);
    await burst(pair, port, 2 * count + 20, 1);
    assert.equal(timeWaits(pair, port), 2 * count + 20);
    pair.onAlice = await pair.daemon(pair.alice);
    pair.onBob = await pair.daemon(pair.bob);
    await burst(pair, port, count, 1);
    await pair.assertEncrypted(port, count);
  });
});

describe('a server that speaks ENO itself, daemon at the server only', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('the server only');
    pair.kernelPart(pair.alice);
  });
  after(() => pair?.close());

  /** Both ends speak ENO by TCP_ENO_RAW (include/tcp_eno.h); the server closes first. One port, twice. */
  const RAW = `
import socket, sys
mode, port, other = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def eno_socket(port):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, 1037, bytes([0x23]))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('', port))
    return s
def phase(s): return s.getsockopt(socket.IPPROTO_TCP, 1039, 96)[0]
if mode == 'serve':
    listener = eno_socket(port)
    listener.listen()
    for _ in range(2):
        connection, _ = listener.accept()
        print(phase(connection))
        connection.close()
else:
    for _ in range(2):
        connection = eno_socket(40000)
        connection.connect((other, port))
        print(phase(connection), connection.recv(1))
        connection.close()
`;
  test('it is left alone, also where its last connection from that port is in TIME_WAIT', async () => {
    const port = 7804;
    const server = pair.bob.run(...python(RAW, 'serve', `${port}`, ''));
    await pair.bob.waitForListener(port);
    const client = await pair.alice.run(...python(RAW, 'call', `${port}`, pair.bob.address4));
    const ENCRYPTING = 3;
    assert.equal(String(client.stdout), `${ENCRYPTING} b''\n`.repeat(2), client.stderr);
    assert.equal(String((await server).stdout), `${ENCRYPTING}\n`.repeat(2));
    assert.deepEqual(
      pair.onBob?.lines.filter(({ event }) => event !== 'ready'),
      [],
    );
  });
});
