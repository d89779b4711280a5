/** "tcpcrypt down" and "tcpcrypt up" under running daemons: they say so, refuse what is private, and go on by themselves. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Status } from '#src/daemon/control/protocol.js';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { up } from '#src/kernel/install.js';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from './support/pair.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));

/** `PORT`: says what getpeername() and TCP_ENO_SESSID tell of each connection, then echoes until the end. */
const SERVER = `
import socket, sys, threading
listener = socket.create_server(('', int(sys.argv[1])), backlog=100)
def serve(c, peer):
    with c:
        try: id = c.getsockopt(socket.IPPROTO_TCP, 1027, 64).hex()
        except OSError: id = 'none'
        try:
            c.sendall(('%s %d %s\\n' % (*peer, id)).encode())
            while data := c.recv(100): c.sendall(data)
        except OSError: pass
while True: threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
`;
/** `ADDRESS PORT`: the client's view of one connection; for each line on stdin, whether it lives, and its session ID. */
const CLIENT = `
import socket, sys
try:
    c = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
    said = c.makefile('r').readline()
    print(said.strip(), flush=True)
except OSError as error: sys.exit(type(error).__name__)
def id():
    try: return c.getsockopt(socket.IPPROTO_TCP, 1027, 64).hex()
    except OSError: return 'none'
print(id(), flush=True)
for _ in sys.stdin:
    c.sendall(b'x')
    print('lives' if c.recv(1) else 'end', id(), flush=True)
`;

for (const workers of ['1', '2'])
  describe(`the kernel part goes and comes, ${workers} worker(s)`, { skip }, () => {
    let pair: Pair;
    let port = 8600;
    let policy: string;
    const flags = ['--workers', workers, '--user', 'nobody'];
    before(async () => {
      pair = await Pair.open('neither end');
      policy = join(pair.lab.directory, 'policy.toml');
      // Both directions: the same file on both hosts.
      writeFileSync(policy, '[[rule]]\naction = "private"\nport = "8700-8799"\n', { mode: 0o644 });
      pair.onAlice = await pair.daemon(pair.alice, [...flags, '--policy', policy]);
      pair.onBob = await pair.daemon(pair.bob, [...flags, '--policy', policy, '--metrics', '127.0.0.1:9569']);
    });
    after(() => pair?.close());

    const tcpcrypt = (host: Host, ...args: string[]) => host.run(process.execPath, [main, ...args]);
    const downOn = async (host: Host): Promise<void> => {
      const { code, stderr } = await tcpcrypt(host, 'down', '--pins', pair.kernelPart(host));
      assert.equal(code, 0, stderr);
    };
    const upOn = (host: Host) => up({ cgroup: host.cgroup, pins: pair.kernelPart(host) });
    const daemonOn = (host: Host): DaemonProcess => {
      const daemon = host === pair.alice ? pair.onAlice : pair.onBob;
      assert.ok(daemon);
      return daemon;
    };
    const events = (daemon: DaemonProcess, wanted: string) =>
      daemon.lines.filter(({ event }) => event === wanted).length;

    /** A new server on bob. */
    async function server(base = 0): Promise<number> {
      const at = ++port + base;
      pair.bob.spawn(...python(SERVER, `${at}`), { stdio: 'ignore' });
      await pair.bob.waitForListener(at);
      return at;
    }

    /** What becomes of one connection: undefined when it is refused. */
    async function call(to: number) {
      const { code, stdout } = await pair.alice.run(...python(CLIENT, pair.bob.address4, `${to}`));
      if (code !== 0) return undefined;
      const [first = '', clientsId] = String(stdout).trim().split('\n');
      const [address, peerPort, serversId] = first.split(' ');
      // Stand-in ports are below: see src/daemon/stand-in-ports.ts.
      assert.equal(address, pair.alice.address4);
      assert.ok(Number(peerPort) >= 32_768, 'the server is told its real client');
      return { clientsId, serversId };
    }

    async function assertEncrypts(to: number): Promise<void> {
      const seen = await call(to);
      assert.match(seen?.clientsId ?? '', /^[0-9a-f]{66}$/);
      assert.equal(seen?.serversId, seen?.clientsId);
    }

    async function assertPlain(to: number): Promise<void> {
      const seen = await call(to);
      assert.equal(seen?.clientsId, 'none');
      assert.equal(seen?.serversId, 'none');
    }

    for (const end of ['alice', 'bob'] as const)
      test(`down at ${end}: said once and everywhere, private is refused; up: all is encrypted again`, async () => {
        const host = pair[end];
        const daemon = daemonOn(host);
        const { pid } = daemon;
        pair.forget();
        await assertEncrypts(await server());
        const stays = pair.alice.spawn(...python(CLIENT, pair.bob.address4, `${await server()}`), {
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        let said = '';
        stays.stdout?.on('data', (text) => {
          said += text;
        });
        await eventually(() => assert.match(said, /\n[0-9a-f]{66}\n/));

        const toPrivate = await server(100);
        await downOn(host);
        assert.equal(await call(toPrivate), undefined, 'private, whether or not the daemon has noticed');
        await daemon.line(({ event }) => event === 'kernel-part-lost');
        const { code, stdout } = await tcpcrypt(host, 'status', '--json');
        assert.equal(code, 4);
        const status = JSON.parse(String(stdout)) as Status;
        assert.equal(status.state, 'degraded');
        assert.match(status.problems[0] ?? '', /kernel part is gone.*"tcpcrypt up"/);
        assert.match(String((await tcpcrypt(host, 'status')).stdout), /^PROBLEM +the kernel part is gone/m);
        const doctor = await tcpcrypt(host, 'doctor');
        assert.match(String(doctor.stdout), /MISSING {2}daemon: .*the kernel part is gone/);
        if (end === 'bob') {
          const metrics = await host.run('curl', ['-sf', 'http://127.0.0.1:9569/metrics']);
          assert.match(String(metrics.stdout), /^tcpcrypt_problems 1$/m);
          assert.match(String(metrics.stdout), /^tcpcrypt_events_total\{event="kernelPartLost"\} 1$/m);
        }
        await assertPlain(await server());
        assert.equal(await call(toPrivate), undefined);
        stays.stdin?.write('\n');
        await eventually(() => assert.match(said, /\nlives /));

        upOn(host);
        await daemon.line(({ event }) => event === 'kernel-part-back');
        assert.equal(events(daemon, 'kernel-part-lost'), 1);
        await eventually(async () => assert.equal((await tcpcrypt(host, 'status')).code, 0));
        for (let i = 0; i < 2; i++) await assertEncrypts(await server());
        await assertEncrypts(await server(100));
        said = '';
        stays.stdin?.write('\n');
        // Whose connection it was before is known to its client still, or again.
        await eventually(() => assert.match(said, /^lives [0-9a-f]{66}\n/));
        stays.stdin?.end();
        assert.equal(daemon.pid, pid);
        assert.ok(daemon.running);
      });

    test('down and up at one stroke', async () => {
      for (const host of [pair.alice, pair.bob]) {
        pair.forget();
        await downOn(host);
        upOn(host);
        await daemonOn(host).line(({ event }) => event === 'kernel-part-back');
        await eventually(async () => assert.equal((await tcpcrypt(host, 'status')).code, 0));
        await assertEncrypts(await server());
        await assertEncrypts(await server(100));
      }
    });

    test('a kernel part in another place: the daemon says that it must be restarted', {
      skip: workers !== '1',
    }, async () => {
      const pins = `${pair.kernelPart(pair.alice)}-elsewhere`;
      pair.forget();
      await downOn(pair.alice);
      up({ cgroup: pair.alice.cgroup, pins });
      try {
        await daemonOn(pair.alice).line(({ event }) => event === 'kernel-part-unusable');
        const { code, stdout } = await tcpcrypt(pair.alice, 'status');
        assert.equal(code, 4);
        assert.match(String(stdout), /PROBLEM .*restart the daemon/);
      } finally {
        assert.equal((await tcpcrypt(pair.alice, 'down', '--pins', pins)).code, 0);
      }
      await eventually(async () => {
        const { stdout } = await tcpcrypt(pair.alice, 'status');
        assert.match(String(stdout), /PROBLEM +the kernel part is gone/);
      });
      upOn(pair.alice);
      await daemonOn(pair.alice).line(({ event }) => event === 'kernel-part-back');
      await eventually(async () => assert.equal((await tcpcrypt(pair.alice, 'status')).code, 0));
      await assertEncrypts(await server());
    });
  });
