/** Policies on real hosts: alice has the daemon, bob has one too, carol has none. */
import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { cgroupRoot } from '#src/kernel/cgroup.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { type CapturedSegment, findOption, isSyn } from '#src/lab/pcap.js';
import { assertSilent, eventually, Pair, python, skip } from './support/pair.js';
import { greet, greetIn, policyFile } from './support/policies.js';
import { MANY } from './support/probe.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const hasEno = ({ options }: CapturedSegment): boolean => findOption(options, 69) !== undefined;
const plaintext = (segments: CapturedSegment[]): boolean =>
  segments.some(({ payload }) => Buffer.from(payload).includes('hello'));

/** Ports of bob and carol, and what alice's policy says about them. */
const PORT = {
  private: 7601,
  clear: 7602,
  block: 7603,
  opportunistic: 7604,
  user: 7605,
  cgroup: 7606,
  https: 443,
};

async function serve(host: Host, ...ports: number[]): Promise<void> {
  for (const port of ports) {
    host.spawn(...python(MANY, 'serve', `${port}`, 'client', '6'), { stdio: 'ignore' });
    await host.waitForListener(port);
  }
}

/** What alice sees, and what went over the wire for it. */
async function observe(pair: Pair, attempt: () => Promise<string>) {
  const capture = await Capture.start(pair.lab, pair.alice);
  const saw = await attempt();
  return { saw, segments: await capture.stop() };
}

const rulesOf = (host: Host): string =>
  ['nft list ruleset', 'iptables-save', 'ip6tables-save', 'ip rule', 'ip -6 rule']
    .map((command) => host.enter('sh', ['-c', command]))
    .join('\n')
    .replace(/^#.*$/gm, '')
    .trim();

describe('policy for what programs on this host open', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  let group: string;
  let daemon: DaemonProcess;
  before(async () => {
    pair = await Pair.open('neither end');
    carol = pair.lab.host('carol');
    group = join(pair.alice.cgroup, 'group');
    const policy = policyFile(
      pair.lab,
      `[[rule]]
       action = "private"
       port = ${PORT.private}
       [[rule]]
       action = "clear"
       network = ["10.69.0.0/16", "fd69::/16"]
       port = ${PORT.clear}
       [[rule]]
       action = "block"
       port = ["${PORT.block}-${PORT.block}", 7999]
       [[rule]]
       action = "block"
       port = ${PORT.user}
       user = "nobody"
       [[rule]]
       action = "block"
       cgroup = "${group.slice((cgroupRoot() ?? '').length)}"
       [[rule]]
       action = "block"
       network = "127.0.0.9"`,
    );
    daemon = await pair.daemon(pair.alice, ['--policy', policy]);
    pair.onAlice = daemon;
    pair.onBob = await pair.daemon(pair.bob);
    await serve(pair.bob, ...Object.values(PORT));
    await serve(carol, ...Object.values(PORT));
  });
  after(() => pair?.close());

  for (const family of ['address4', 'address6'] as const) {
    test(`private, ${family}: encrypted with a host that can`, async () => {
      pair.forget();
      const { saw, segments } = await observe(pair, () => greet(pair.alice, pair.bob[family], PORT.private));
      assert.equal(saw, 'answered');
      assert.ok(!plaintext(segments));
      assert.equal((await daemon.line(({ event }) => event === 'secure')).encrypted, true);
    });

    test(`private, ${family}: refused by a host that cannot, and no SYN without the option goes out`, async () => {
      pair.forget();
      const before = Number((await daemon.status()).outboundRefused ?? 0);
      const { saw, segments } = await observe(pair, () => greet(pair.alice, carol[family], PORT.private));
      assert.equal(saw, 'ECONNREFUSED');
      const syns = segments.filter(isSyn);
      assert.ok(syns.length > 0 && syns.every(hasEno));
      assert.ok(!plaintext(segments));
      const line = await daemon.line(({ event }) => event === 'refused');
      assert.equal(line.plainReason, 'ERR_TCPCRYPT_ENO_ABSENT');
      assert.equal((await daemon.status()).outboundRefused, before + 1);
    });

    test(`clear, ${family}: never asks for encryption, and never meets the daemon`, async () => {
      pair.forget();
      const { saw, segments } = await observe(pair, () => greet(pair.alice, pair.bob[family], PORT.clear));
      assert.equal(saw, 'answered');
      assert.deepEqual(segments.filter(isSyn).map(hasEno), [false]);
      assert.ok(plaintext(segments));
      await assertSilent(daemon);
    });

    test(`block, ${family}: refused, and nothing goes out`, async () => {
      const { saw, segments } = await observe(pair, () => greet(pair.alice, pair.bob[family], PORT.block));
      assert.equal(saw, 'ECONNREFUSED');
      assert.deepEqual(segments.filter(isSyn), []);
    });

    test(`private, ${family}: a port where nobody listens is refused, by the far host`, async () => {
      assert.equal(await greet(pair.alice, pair.bob[family], 7601 + 20), 'ECONNREFUSED');
    });
  }

  test('private-or-clear is the default, and a port that is encrypted anyway is left alone', async () => {
    const asked = await observe(pair, () => greet(pair.alice, carol.address4, PORT.opportunistic));
    assert.equal(asked.saw, 'answered');
    assert.deepEqual(asked.segments.filter(isSyn).map(hasEno), [true]);
    const https = await observe(pair, () => greet(pair.alice, carol.address4, PORT.https));
    assert.equal(https.saw, 'answered');
    assert.deepEqual(https.segments.filter(isSyn).map(hasEno), [false]);
  });

  test('by user', async () => {
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.user, 65534), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.user, 1), 'answered');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.user), 'answered');
  });

  test('by cgroup: one that comes later, one below it, and one that was made anew', async () => {
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.cgroup), 'answered');
    for (let i = 0; i < 2; i++) {
      mkdirSync(join(group, 'below'), { recursive: true });
      await eventually(async () => {
        assert.equal(await greetIn(group, pair.alice, pair.bob.address4, PORT.cgroup), 'ECONNREFUSED');
      });
      assert.equal(
        await greetIn(join(group, 'below'), pair.alice, pair.bob.address4, PORT.cgroup),
        'ECONNREFUSED',
      );
      assert.equal(await greet(pair.alice, pair.bob.address4, PORT.cgroup), 'answered');
      rmdirSync(join(group, 'below'));
      rmdirSync(group);
    }
  });

  test('connections within the host: private does not concern them, block can', async () => {
    await serve(pair.alice, PORT.private, 7650);
    assert.equal(await greet(pair.alice, '127.0.0.1', PORT.private), 'answered');
    assert.equal(await greet(pair.alice, pair.alice.address4, PORT.private), 'answered');
    assert.equal(await greet(pair.alice, '127.0.0.9', 7650), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, '127.0.0.1', 7650), 'answered');
  });

  test('private: an option that is stripped on the way does not make it plain, however often', async () => {
    for (const stripFrom of ['syn', 'syn-ack'] as const) {
      const undo = pair.lab.router.middlebox({ stripFrom });
      for (let i = 0; i < 4; i++) {
        const { saw, segments } = await observe(pair, () =>
          greet(pair.alice, pair.bob.address4, PORT.private),
        );
        assert.equal(saw, 'ECONNREFUSED');
        assert.ok(!plaintext(segments));
      }
      undo();
    }
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.private), 'answered');
  });

  test('private: where SYNs with the option vanish, it times out like a host that is not there', async () => {
    const undo = pair.lab.router.middlebox({ dropSynWithOption: true });
    const { saw, segments } = await observe(pair, () => greet(pair.alice, pair.bob.address4, PORT.private));
    undo();
    assert.equal(saw, 'timeout');
    assert.ok(segments.filter(isSyn).every(hasEno));
  });

  test('private: a program that speaks ENO itself, and would go on in plaintext, is reset', async () => {
    const connect = (address: string) =>
      pair.alice.run(process.execPath, [main, 'connect', address, `${PORT.private}`], { input: 'hello\n' });
    const { saw, segments } = await observe(pair, async () => {
      const { code, stderr } = await connect(carol.address4);
      assert.equal(code, 1);
      return stderr;
    });
    assert.match(saw, /ECONNRESET/);
    assert.ok(!plaintext(segments));
    const encrypted = await observe(pair, async () => (await connect(pair.bob.address4)).stderr);
    assert.match(encrypted.saw, /encrypted|secure/i);
    assert.ok(!plaintext(encrypted.segments));
  });
});

describe('policy for what far hosts open', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  let bobs: DaemonProcess;
  before(async () => {
    pair = await Pair.open('neither end');
    carol = pair.lab.host('carol');
    const policy = policyFile(
      pair.lab,
      `[[rule]]
       action = "private"
       direction = "inbound"
       port = [${PORT.private}, ${PORT.private + 50}]
       [[rule]]
       action = "clear"
       local-port = ${PORT.clear}
       [[rule]]
       action = "block"
       direction = "inbound"
       network = ["${carol.address4}", "${carol.address6}"]
       port = ${PORT.block}`,
    );
    pair.onAlice = await pair.daemon(pair.alice, ['--except', `${PORT.https}`]);
    bobs = await pair.daemon(pair.bob, ['--policy', policy]);
    pair.onBob = bobs;
    await serve(pair.bob, PORT.private, PORT.clear, PORT.block);
  });
  after(() => pair?.close());

  for (const family of ['address4', 'address6'] as const) {
    test(`private, ${family}: a client that encrypts is served, a plain one is refused`, async () => {
      pair.forget();
      assert.equal(await greet(pair.alice, pair.bob[family], PORT.private), 'answered');
      await bobs.line(({ event }) => event === 'secure');
      assert.equal(await greet(carol, pair.bob[family], PORT.private), 'ECONNREFUSED');
    });

    test(`block and clear, ${family}`, async () => {
      pair.forget();
      assert.equal(await greet(carol, pair.bob[family], PORT.block), 'ECONNREFUSED');
      assert.equal(await greet(pair.alice, pair.bob[family], PORT.block), 'answered');
      await bobs.line(({ event }) => event === 'secure');
      pair.forget();
      assert.equal(await greet(pair.alice, pair.bob[family], PORT.clear), 'answered');
      await assertSilent(bobs);
    });
  }

  test('private: an option that is stripped from either SYN does not make it plain', async () => {
    for (const stripFrom of ['syn', 'syn-ack'] as const) {
      const undo = pair.lab.router.middlebox({ stripFrom });
      const { saw, segments } = await observe(pair, () => greet(pair.alice, pair.bob.address4, PORT.private));
      undo();
      assert.match(saw, /^ECONN(REFUSED|RESET)$/);
      assert.ok(
        !segments.some(({ payload }) => Buffer.from(payload).includes('10.69')),
        'the server answered',
      );
    }
  });

  test('private: a server that speaks ENO itself is not reached by others', async () => {
    const port = PORT.private + 50;
    pair.bob.spawn(process.execPath, [main, 'listen', '--echo', '--keep-open', `${port}`], {
      stdio: 'ignore',
    });
    await pair.bob.waitForListener(port);
    assert.equal(await greet(carol, pair.bob.address4, port), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, pair.bob.address4, port), 'answered');
    const undo = pair.lab.router.middlebox({ stripFrom: 'syn-ack' });
    const { saw } = await observe(pair, () => greet(pair.alice, pair.bob.address4, port));
    undo();
    assert.notEqual(saw, 'answered');
  });

  test('what the rules refused is counted', async () => {
    const { stdout } = await pair.bob.run('nft', [
      '-j',
      'list',
      'counters',
      'table',
      'inet',
      'tcpcrypt_policy',
    ]);
    const { nftables } = JSON.parse(String(stdout)) as {
      nftables: { counter?: { name: string; packets: number } }[];
    };
    const packets = (name: string) =>
      nftables.find(({ counter }) => counter?.name === name)?.counter?.packets ?? 0;
    assert.ok(packets('refused_inbound') >= 3);
    assert.equal(packets('blocked_inbound'), 2);
    assert.ok(Number((await bobs.status()).inboundPrivateRefused) >= 1);
  });

  test('killed: private stays refused, also for clients that encrypt, all else is plain; "down" lifts it', async () => {
    await bobs.stop('SIGKILL');
    await eventually(() => assert.doesNotMatch(rulesOf(pair.bob), /table inet tcpcrypt \{/));
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.private), 'ECONNREFUSED');
    assert.equal(await greet(carol, pair.bob.address4, PORT.private), 'ECONNREFUSED');
    assert.equal(await greet(carol, pair.bob.address4, PORT.block), 'ECONNREFUSED');
    assert.equal(await greet(carol, pair.bob.address4, PORT.clear), 'answered');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.block), 'answered');
    const pins = join(pair.kernelPart(pair.bob), '../nothing-is-here');
    const { stdout, code } = await pair.bob.run(process.execPath, [main, 'down', '--json', '--pins', pins]);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(String(stdout)).lifted, ['nft table inet tcpcrypt_policy']);
    assert.equal(await greet(carol, pair.bob.address4, PORT.private), 'answered');
  });
});

describe('a daemon that enforces', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  let pristine: string;
  before(async () => {
    pair = await Pair.open('the server only');
    carol = pair.lab.host('carol');
    pair.kernelPart(pair.alice);
    pristine = rulesOf(pair.alice);
    await serve(pair.bob, PORT.private, PORT.block, PORT.opportunistic);
    await serve(carol, PORT.private, PORT.opportunistic);
  });
  after(() => pair?.close());

  const enforce = `
    [[rule]]
    action = "private"
    port = ${PORT.private}
    [[rule]]
    action = "block"
    port = ${PORT.block}`;

  test('killed: private and block stay refused, all else is plain; started again it encrypts, without a gap', async () => {
    const flags = ['--policy', policyFile(pair.lab, enforce)];
    const doomed = await pair.daemon(pair.alice, flags);
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.private), 'answered');
    await doomed.stop('SIGKILL');
    // At once, and when the guard has done its work.
    const { saw, segments } = await observe(pair, () => greet(pair.alice, carol.address4, PORT.private));
    assert.equal(saw, 'ECONNREFUSED');
    assert.deepEqual(segments.filter(isSyn), []);
    await eventually(() => assert.doesNotMatch(rulesOf(pair.alice), /NFQUEUE|table inet tcpcrypt \{/));
    for (const address of [pair.bob.address4, pair.bob.address6, carol.address4])
      assert.equal(await greet(pair.alice, address, PORT.private), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.block), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.opportunistic), 'answered');

    const prober = pair.alice.run(...python(GAP, carol.address4, `${PORT.private}`, '2'), {
      timeoutMs: 30_000,
    });
    const again = await pair.daemon(pair.alice, flags);
    assert.equal(String((await prober).stdout), 'ECONNREFUSED');
    assert.equal(await greet(pair.alice, pair.bob.address4, PORT.private), 'answered');
    // Asked to stop, it lifts the policy.
    assert.equal(await again.stop(), 0);
    assert.equal(rulesOf(pair.alice), pristine);
    assert.equal(await greet(pair.alice, carol.address4, PORT.private), 'answered');
  });

  test('a policy with mistakes: it does not start, says where, and changes nothing', async () => {
    const file = policyFile(pair.lab, '\n[[rule]]\naction = "privat"\n');
    const args = [main, 'daemon', '--pins', pair.kernelPart(pair.alice), '--policy', file];
    const { code, stderr } = await pair.alice.run(process.execPath, args);
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`${file}:3: "privat" does not fit "action": one of clear, `));
    assert.match(stderr, /ERR_TCPCRYPT_POLICY/);
    assert.equal(rulesOf(pair.alice), pristine);
  });

  test('reload under load: no connection is lost, and each finds a whole policy', async () => {
    const file = policyFile(pair.lab, enforce);
    const daemon = await pair.daemon(pair.alice, ['--policy', file]);
    const load = pair.alice.run(
      ...python(MANY, 'call', pair.bob.address4, `${PORT.private}`, 'client', '400', '8'),
      { timeoutMs: 60_000 },
    );
    const forbidden = pair.alice.run(...python(GAP, carol.address4, `${PORT.private}`, '4'), {
      timeoutMs: 30_000,
    });
    let reloads = 0;
    let done = false;
    void load.finally(() => {
      done = true;
    });
    while (!done && reloads < 40) {
      writeFileSync(file, `${enforce}\n[[rule]]\naction = "clear"\nport = ${9000 + reloads}\n`);
      process.kill(daemon.pid, 'SIGHUP');
      reloads++;
      const rules = reloads;
      await eventually(() =>
        assert.equal(daemon.lines.filter(({ event }) => event === 'reloaded').length, rules),
      );
    }
    assert.deepEqual(JSON.parse(String((await load).stdout)), { done: 400, failed: 0, failures: [] });
    assert.equal(String((await forbidden).stdout), 'ECONNREFUSED');
    assert.ok(reloads > 5, `${reloads} reloads`);
    const status = await daemon.status();
    assert.equal(status.outboundPlain ?? 0, 0);
    await daemon.stop();
    assert.equal(rulesOf(pair.alice), pristine);
  });

  test('reload: connections that exist go on, new ones are under the new policy; mistakes change nothing', async () => {
    const file = policyFile(pair.lab, '');
    const daemon = await pair.daemon(pair.alice, ['--policy', file]);
    const client = pair.alice.spawn(
      ...python(
        `import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print('open', flush=True)
sys.stdin.readline()
c.sendall(b'hello')
print('answered' if c.recv(100) else 'end', flush=True)`,
        pair.bob.address4,
        `${PORT.private}`,
      ),
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let said = '';
    client.stdout?.on('data', (text) => {
      said += text;
    });
    await eventually(() => assert.match(said, /open/));
    assert.equal(await greet(pair.alice, carol.address4, PORT.private), 'answered');
    writeFileSync(file, enforce);
    process.kill(daemon.pid, 'SIGHUP');
    await daemon.line(({ event }) => event === 'reloaded');
    // What is known to be plain is not believed under `private`.
    assert.equal(await greet(pair.alice, carol.address4, PORT.private), 'ECONNREFUSED');
    client.stdin?.write('go\n');
    await eventually(() => assert.match(said, /answered/));

    writeFileSync(file, '[[rule]]\naction = "clear"\nprot = 7601\n');
    process.kill(daemon.pid, 'SIGHUP');
    const failed = await daemon.line(({ event }) => event === 'reload-failed');
    assert.equal(failed.code, 'ERR_TCPCRYPT_POLICY');
    assert.equal(await greet(pair.alice, carol.address4, PORT.private), 'ECONNREFUSED');

    // Nothing to be refused any more: nothing stays after a kill.
    writeFileSync(file, '');
    process.kill(daemon.pid, 'SIGHUP');
    await eventually(() => assert.equal(daemon.lines.filter(({ event }) => event === 'reloaded').length, 2));
    await daemon.stop('SIGKILL');
    await eventually(() => assert.equal(rulesOf(pair.alice), pristine));
  });
});

/** Tries to connect all the time; prints every different outcome. */
const GAP = `
import errno, socket, sys, time
seen, end = set(), time.time() + float(sys.argv[3])
while time.time() < end:
    try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close(); seen.add('connected')
    except OSError as error: seen.add(errno.errorcode.get(error.errno, repr(error)))
    time.sleep(0.002)
print(' '.join(sorted(seen)), end='')
`;
