/** What the matrix (support/matrix-test.ts) does not reach: the network between, and what the daemon itself does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { type CapturedSegment, findOption, isSyn, isSynAck } from '#src/lab/pcap.js';
import { observe, openMatrix } from './support/matrix.js';
import { eventually, type Pair, python, skip } from './support/pair.js';
import { STALL } from './support/stall.js';

const MIB = 1024 * 1024;
const ENO = 69;
const set = (host: Host, name: string, value: number): void => {
  host.enter('sh', ['-c', `echo ${value} > /proc/sys/net/ipv4/${name}`]);
};

describe('networks of other kinds, daemons at both ends', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await openMatrix('both ends');
  });
  after(() => pair?.close());
  beforeEach(() => pair.forget());

  const SOME = ['connects', 'large writes', 'large writes both ways at once', 'tiny writes'];
  const assertWorks = async (family: '4' | '6') => {
    const { saw } = await observe(pair, family, SOME);
    assert.deepEqual(saw['large writes'], {
      client: ['connect: ok', 'send 8388608: 8388608 bytes', 'read: 8388608 bytes bdf23837, end'],
      server: ['accept: ok', 'read: 8388608 bytes bdf23837, end', 'send 8388608: 8388608 bytes'],
    });
    for (const name of SOME) assert.ok(!JSON.stringify(saw[name]).includes('Error('), name);
    const lines = [...(pair.onAlice?.lines ?? []), ...(pair.onBob?.lines ?? [])];
    assert.ok(lines.some(({ event }) => event === 'secure'));
    assert.ok(!lines.some(({ event }) => event === 'plain'));
  };

  test('ECN is negotiated, on the wire as well, and does no harm', async () => {
    for (const host of [pair.alice, pair.bob]) set(host, 'tcp_ecn', 1);
    const capture = await Capture.start(pair.lab, pair.alice);
    await observe(pair, '4', ['connects']);
    const segments = await capture.stop();
    const eno = ({ options }: CapturedSegment) => findOption(options, ENO) !== undefined;
    assert.deepEqual(
      [
        ...new Set(
          segments
            .filter(isSyn)
            .filter(eno)
            .map(({ flags }) => flags),
        ),
      ],
      ['SEW'],
    );
    assert.ok(segments.filter(isSynAck).every((segment) => segment.flags.includes('E') && eno(segment)));
    await assertWorks('4');
    await assertWorks('6');
    for (const host of [pair.alice, pair.bob]) set(host, 'tcp_ecn', 2);
  });

  for (const [name, atAlice, atBob] of [
    ['small packets', 1280, 1280],
    ['jumbo packets', 9000, 9000],
    ['jumbo packets at one end, and a narrow path to the other', 9000, 1280],
  ] as const)
    test(`${name}: MTU ${atAlice} and ${atBob}`, async () => {
      for (const [host, mtu] of [
        [pair.alice, atAlice],
        [pair.bob, atBob],
      ] as const) {
        host.enter('ip', ['link', 'set', 'eth0', 'mtu', `${mtu}`]);
        pair.lab.router.enter('ip', ['link', 'set', host.routerInterface, 'mtu', `${mtu}`]);
      }
      await assertWorks('4');
      await assertWorks('6');
    });

  test('traffic class and hop limit that the program chose are on the wire', async () => {
    const MARKED = `
import socket, sys
s = socket.socket()
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xb8) # expedited forwarding
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
s.connect((sys.argv[1], int(sys.argv[2])))
print(s.recv(10))
`;
    const port = 8301;
    pair.bob.spawn(...python(HELLO, `${port}`), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
    pair.lab.router.enter(
      'nft',
      ['-f', '-'],
      `table inet seen {
         chain forward {
           type filter hook forward priority 0;
           tcp dport ${port} ip dscp ef ip ttl 32 counter
         }
       }`,
    );
    const { stdout, stderr } = await pair.alice.run(...python(MARKED, pair.bob.address4, `${port}`));
    assert.equal(String(stdout), "b'hello'\n", stderr);
    const counted = /packets (\d+)/.exec(pair.lab.router.enter('nft', ['list', 'table', 'inet', 'seen']));
    assert.ok(Number(counted?.[1]) >= 4, counted?.[0]);
    await pair.assertRelayed(port);
  });

  test('the daemon asks a silent far host whether it is still there', async () => {
    const IDLE = `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.recv(5)
print('here', flush=True)
sys.stdin.read()
`;
    const port = 8304;
    pair.bob.spawn(...python(HELLO.replace('connection.close()', 'kept = connection'), `${port}`), {
      stdio: 'ignore',
    });
    await pair.bob.waitForListener(port);
    const idle = pair.alice.spawn(...python(IDLE, pair.bob.address4, `${port}`), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => idle.stdout?.once('data', resolve));
    await eventually(() => {
      const timers = pair.alice.enter('ss', ['-Htno', 'state', 'established', 'dport', '=', `:${port}`]);
      // One is the application's own, which did not ask for it.
      assert.equal(timers.split('\n').filter((line) => line.includes('timer:(keepalive,')).length, 1, timers);
    });
    idle.stdin?.end();
    await new Promise((resolve) => idle.once('exit', resolve));
  });

  test('connections that nobody can stand in for are left alone: TCP-MD5', async () => {
    const port = 8302;
    const signed = (side: string) => python(SIGNED, side, pair.alice.address4, pair.bob.address4, `${port}`);
    const server = pair.bob.run(...signed('server'));
    await pair.bob.waitForListener(port);
    const { stdout, stderr } = await pair.alice.run(...signed('client'));
    assert.equal(String(stdout), "b'hello'\n", stderr);
    await server;
    assert.equal((await pair.onAlice?.status())?.outboundNotRelayable, 1);
    assert.deepEqual(
      pair.onBob?.lines.filter(({ event }) => event === 'plain' || event === 'secure'),
      [],
    );
  });

  test('two programs that open at the same time (RFC 9293 §3.5, figure 7) meet', async () => {
    const CROSS = `
import errno, socket, sys, time
own, other, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
time.sleep(float(sys.argv[4]) - time.time())
for _ in range(200):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((own, port))
    s.settimeout(5)
    try: s.connect((other, port))
    except OSError: time.sleep(0.005)
    else: break
s.sendall(b'hello')
print(s.recv(10), s.getpeername() == (other, port))
`;
    const at = `${Date.now() / 1000 + 1}`;
    const results = await Promise.all([
      pair.alice.run(...python(CROSS, pair.alice.address4, pair.bob.address4, '8303', at), {
        timeoutMs: 30_000,
      }),
      pair.bob.run(...python(CROSS, pair.bob.address4, pair.alice.address4, '8303', at), {
        timeoutMs: 30_000,
      }),
    ]);
    for (const { stdout, stderr } of results) assert.equal(String(stdout), "b'hello' True\n", stderr);
  });
});

for (const place of ['both ends', 'the client only'] as const)
  describe(`what the daemon does for it, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    before(async () => {
      pair = await openMatrix(place);
    });
    after(() => pair?.close());

    test('100 MB to a reader that stalls: nothing is lost, and the daemons do not hoard', async () => {
      const size = 100 * MIB;
      const server = pair.bob.run(...python(STALL, 'serve', '7160', '2'), { timeoutMs: 60_000 });
      await pair.bob.waitForListener(7160);
      const before = [pair.onAlice, pair.onBob].map(rss);
      const client = pair.alice.run(...python(STALL, 'call', pair.bob.address4, '7160', `${size}`), {
        timeoutMs: 60_000,
      });
      await sleep(1500);
      const stalled = [pair.onAlice, pair.onBob].map(rss);
      const [sent, received] = [await client, await server];
      assert.equal(String(received.stdout), String(sent.stdout));
      assert.ok(String(sent.stdout).startsWith(`${size} `));
      stalled.forEach((mebibytes, i) => {
        assert.ok(mebibytes - (before[i] ?? 0) < 60, `${before[i]} MiB, then ${mebibytes}`);
      });
      await pair.assertRelayed(7160);
    });

    test('a program that has lost its patience does not take up room for long', async () => {
      await pair.alice.run('curl', ['-sS', '--connect-timeout', '1', 'http://192.0.2.3/']);
      assert.equal((await pair.onAlice?.status())?.held, 1);
      await eventually(async () => {
        const { held, outboundAbandoned } = (await pair.onAlice?.status()) ?? {};
        assert.deepEqual({ held, outboundAbandoned }, { held: 0, outboundAbandoned: 1 });
      });
    });
  });

/** `PORT`: says hello to everybody. */
const HELLO = `
import socket, sys
listener = socket.create_server(('', int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.sendall(b'hello')
    connection.close()
`;

/** Both ends sign their segments (tcp(7), TCP_MD5SIG): `client|server CLIENT SERVER PORT`. */
const SIGNED = `
import socket, struct, sys
side, client, server, port = *sys.argv[1:4], int(sys.argv[4])
peer = server if side == 'client' else client
def signed(peer):
    s = socket.socket()
    key = struct.pack('=H2x4s', socket.AF_INET, socket.inet_aton(peer)).ljust(128, b'\\0')
    s.setsockopt(socket.IPPROTO_TCP, 14, key + struct.pack('=BBHi80s', 0, 0, 6, 0, b'secret'))
    return s
s = signed(peer)
s.settimeout(8)
if side == 'server':
    s.bind(('', port))
    s.listen()
    connection, _ = s.accept()
    connection.sendall(b'hello')
    connection.recv(1)
else:
    s.connect((server, port))
    print(s.recv(10))
`;

/** Resident memory in MiB. */
function rss(daemon: DaemonProcess | undefined): number {
  if (daemon === undefined) return 0;
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
}
