/** What is too much for the daemon, it leaves to plain TCP, and none of it fails. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { assertEncrypted, assertWorks, echo, sheddingLines, standing, status } from './support/load.js';
import { eventually, Pair, python, skip } from './support/pair.js';

describe('limits of the daemon', { skip }, () => {
  let pair: Pair;
  let port = 8000;
  beforeEach(async () => {
    pair = await Pair.open('neither end');
  });
  afterEach(() => pair?.close());

  const all = { answered: 60 };

  test('outbound, more connections than allowed: the rest is plain, none fails, it is said once', async () => {
    pair.onAlice = await pair.daemon(pair.alice, ['--max-connections', '20']);
    pair.onBob = await pair.daemon(pair.bob);
    const connections = await standing(pair, await echo(pair, ++port), all.answered);
    const during = await status(pair.alice);
    assert.equal(during.connections.encrypted, 20);
    assert.equal(during.shed.connections, 40);
    assert.equal(during.state, 'degraded');
    assert.equal(sheddingLines(pair.onAlice).length, 1);
    connections.close();
    await eventually(async () => assert.equal((await status(pair.alice)).connections.outbound, 0));
    pair.forget();
    await assertWorks(pair, ++port, 5, 1);
    await assertEncrypted(pair, port, 5);
  });

  test('inbound, more connections than allowed: the rest goes to the server in plaintext, none fails', async () => {
    pair.onAlice = await pair.daemon(pair.alice);
    pair.onBob = await pair.daemon(pair.bob, ['--max-connections', '20']);
    const connections = await standing(pair, await echo(pair, ++port), all.answered);
    const during = await status(pair.bob);
    assert.equal(during.connections.encrypted, 20);
    assert.equal(during.connections.inbound, 20);
    assert.equal(sheddingLines(pair.onBob).length, 1);
    connections.close();
    await eventually(async () => assert.equal((await status(pair.bob)).connections.inbound, 0));
    pair.forget();
    await assertWorks(pair, ++port, 5, 1);
    await assertEncrypted(pair, port, 5);
  });

  test('outbound, no local port left for the destination: the rest is plain, none fails, and it is called that', async () => {
    const file = join(pair.lab.directory, 'policy.toml');
    const [to, secret] = [await echo(pair, ++port), await echo(pair, ++port)];
    writeFileSync(file, `[[rule]]\naction = "private"\nport = ${secret}\n`, { mode: 0o644 });
    pair.onAlice = await pair.daemon(pair.alice, ['--policy', file]);
    pair.onBob = await pair.daemon(pair.bob);
    pair.alice.enter('sysctl', ['-qw', 'net.ipv4.ip_local_port_range=40000 40003']);
    // The programs choose their own ports; the daemon's are the kernel's choice.
    const open = (destination: number, from: number, count: number) =>
      pair.alice.run(
        ...python(
          `import socket, sys
to, first, count = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
all = []
for i in range(count):
    c = socket.create_connection(to, timeout=20, source_address=('', first + i))
    c.sendall(b'x')
    assert c.recv(1) == b'x'
    all.append(c)
`,
          pair.bob.address4,
          `${destination}`,
          `${from}`,
          `${count}`,
        ),
      );
    const done = await open(to, 30_000, 10);
    assert.equal(done.code, 0, done.stderr);
    const { counters, shed, problems, failures } = await status(pair.alice);
    assert.equal(counters.outboundEncrypted, 4);
    assert.equal(counters.outboundNoLocalPort, 6);
    assert.equal(counters.outboundUnreachable, undefined);
    assert.deepEqual(shed, { ports: 6 });
    assert.deepEqual(failures, { EADDRNOTAVAIL: 6 });
    assert.match(problems[0] ?? '', /ip_local_port_range/);
    assert.equal(sheddingLines(pair.onAlice).length, 1);
    assert.notEqual((await open(secret, 31_000, 10)).code, 0, 'private is refused');
  });

  test('what the policy says is private is refused above the limits, never plain', async () => {
    const file = join(pair.lab.directory, 'policy.toml');
    const [to, plain] = [await echo(pair, ++port), await echo(pair, ++port)];
    writeFileSync(file, `[[rule]]\naction = "private"\nport = ${to}\n`, { mode: 0o644 });
    pair.onAlice = await pair.daemon(pair.alice, ['--max-connections', '3', '--policy', file]);
    pair.onBob = await pair.daemon(pair.bob);
    const connections = await standing(pair, to, 3);
    const refused = await pair.alice.run('nc', ['-N', pair.bob.address4, `${to}`], { input: 'x' });
    assert.equal(refused.code, 1);
    const passed = await pair.alice.run('nc', ['-N', pair.bob.address4, `${plain}`], { input: 'x' });
    assert.equal(String(passed.stdout), 'x');
    assert.equal((await status(pair.alice)).shed.connections, 2);
    connections.close();
  });

  test('the same inbound', async () => {
    const file = join(pair.lab.directory, 'policy.toml');
    const to = await echo(pair, ++port);
    writeFileSync(file, `[[rule]]\naction = "private"\ndirection = "inbound"\nport = ${to}\n`, {
      mode: 0o644,
    });
    pair.onAlice = await pair.daemon(pair.alice);
    pair.onBob = await pair.daemon(pair.bob, ['--max-connections', '3', '--policy', file]);
    const connections = await standing(pair, to, 3);
    const refused = await pair.alice.run('nc', ['-N', pair.bob.address4, `${to}`], { input: 'x' });
    assert.equal(refused.code, 1);
    connections.close();
    await eventually(async () => {
      const again = await pair.alice.run('nc', ['-N', pair.bob.address4, `${to}`], { input: 'x' });
      assert.equal(String(again.stdout), 'x');
    });
  });

  test('no descriptors left: connections are plain, none fails; with descriptors they are encrypted again', async () => {
    pair.onAlice = await pair.daemon(pair.alice, ['--user', 'nobody']);
    pair.onBob = await pair.daemon(pair.bob, ['--user', 'nobody']);
    const files = (host: DaemonProcess | undefined, limit: number): void => {
      // As its own user: not every root may change the limits of others.
      const user = ['--reuid=nobody', '--regid=nogroup', '--clear-groups'];
      execFileSync('setpriv', [...user, 'prlimit', '--pid', `${host?.pid}`, `--nofile=${limit}:`]);
    };
    for (const daemon of [pair.onAlice, pair.onBob]) files(daemon, 140);
    const connections = await standing(pair, await echo(pair, ++port), all.answered);
    const during = await status(pair.alice);
    assert.ok(during.connections.encrypted > 0 && during.connections.encrypted < 30);
    assert.ok((during.shed.files ?? 0) > 0);
    assert.equal(sheddingLines(pair.onAlice).length, 1);
    connections.close();
    // Fewer than it has already: nothing can be opened at all.
    for (const daemon of [pair.onAlice, pair.onBob]) files(daemon, 10);
    await (await standing(pair, await echo(pair, ++port), 10)).close();
    assert.ok(pair.onAlice.running && pair.onBob.running);
    for (const daemon of [pair.onAlice, pair.onBob]) files(daemon, 4096);
    await eventually(async () => {
      pair.forget();
      await assertWorks(pair, ++port, 1, 1);
      await assertEncrypted(pair, port, 1);
    }, 30_000);
  });
});
