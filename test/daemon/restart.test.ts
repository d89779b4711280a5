/** An upgrade: daemons are stopped and started while programs open connections all the time. No attempt is refused. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { eventually, Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

const PORT = 7950;

/** `ADDRESS PORT AT-ONCE`: one connection after the other until a line comes on stdin; prints how many, and failures. */
const ENDLESS = `
import json, socket, sys, threading
address, port, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
over, done, failures = threading.Event(), [0], []
def work():
    while not over.is_set():
        try:
            with socket.create_connection((address, port), timeout=20) as connection:
                connection.sendall(b'hello\\n')
                assert connection.makefile('rb').readline().endswith(b'\\n')
                done[0] += 1
        except Exception as error: failures.append(repr(error))
threads = [threading.Thread(target=work) for _ in range(at_once)]
for thread in threads: thread.start()
sys.stdin.readline()
over.set()
for thread in threads: thread.join()
print(json.dumps({'done': done[0], 'failed': len(failures), 'failures': failures[:10]}))
`;

describe('daemons that are restarted', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends', ['--drain', '20']);
  });
  after(() => pair?.close());

  test('short connections go on, one after the other: none is refused, none is cut off', async () => {
    pair.bob.spawn(...python(MANY, 'serve', `${PORT}`, 'client'), { stdio: 'ignore' });
    await pair.bob.waitForListener(PORT);
    const client = pair.alice.spawn(...python(ENDLESS, pair.bob.address4, `${PORT}`, '4'), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const output: Buffer[] = [];
    client.stdout?.on('data', (data) => output.push(data));
    const closed = new Promise((resolve) => client.once('close', resolve));
    for (const host of ['alice', 'bob', 'alice', 'bob'] as const) {
      const daemon = host === 'alice' ? 'onAlice' : 'onBob';
      await pair[daemon]?.line(({ event }) => event === 'end');
      assert.equal(await pair[daemon]?.stop(), 0);
      pair[daemon] = await pair.daemon(pair[host], ['--drain', '20']);
    }
    await pair.onAlice?.line(({ event }) => event === 'secure' || event === 'plain');
    client.stdin?.end('\n');
    await closed;
    const { done, failed, failures } = JSON.parse(String(Buffer.concat(output)));
    assert.deepEqual({ failed, failures }, { failed: 0, failures: [] });
    assert.ok(done > 100, `${done} connections`);
  });

  test('stopped for another one to take over (SIGQUIT): what is private is refused in between, never plain', async () => {
    const { alice, bob } = pair;
    await pair.onAlice?.stop();
    const file = join(pair.lab.directory, 'policy.toml');
    writeFileSync(file, '[[rule]]\naction = "private"\ndirection = "outbound"\nport = 7951\n', {
      mode: 0o644,
    });
    for (const port of ['7951', '7952']) {
      bob.spawn(...python(MANY, 'serve', port, 'client'), { stdio: 'ignore' });
      await bob.waitForListener(Number(port));
    }
    const call = (port: string) => alice.run('nc', ['-N', bob.address4, port], { input: 'hello\n' });
    const first = await pair.daemon(alice, ['--policy', file]);
    assert.equal((await call('7951')).code, 0);
    await first.line(({ event, remote }) => event === 'secure' && remote === `${bob.address4}:7951`);
    process.kill(first.pid, 'SIGQUIT');
    await eventually(() => assert.ok(!first.running));
    assert.equal(await first.stop(), 75);
    assert.equal((await call('7951')).code, 1);
    assert.equal((await call('7952')).code, 0);
    const second = await pair.daemon(alice, ['--policy', file]);
    assert.equal((await call('7951')).code, 0);
    await second.line(({ event, remote }) => event === 'secure' && remote === `${bob.address4}:7951`);
    assert.equal(await second.stop(), 0);
    assert.equal(alice.enter('nft', ['list', 'ruleset']).trim(), '');
  });
});
