/** Root is for setting up: what relays has its own user, two capabilities, and no way back. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
/** CAP_NET_BIND_SERVICE and CAP_NET_ADMIN: bits 10 and 12. */
const KEPT = 0x1400n;
const NOBODY = 65_534;

describe('the privileges of a running daemon', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends', ['--user', 'nobody']);
  });
  after(() => pair?.close());

  const facts = (status: string): Record<string, string> =>
    Object.fromEntries(
      readFileSync(status, 'utf8')
        .split('\n')
        .map((line) => line.split(/:\s+/) as [string, string]),
    );

  test('it is another user, may do two things, and nothing gives it more', () => {
    for (const daemon of [pair.onAlice, pair.onBob]) {
      const { Uid, Gid, Groups, NoNewPrivs, ...rest } = facts(`/proc/${daemon?.pid}/status`);
      assert.equal(Uid, [NOBODY, NOBODY, NOBODY, NOBODY].join('\t'));
      assert.equal(new Set(Gid?.split('\t')).size, 1);
      assert.notEqual(Gid?.split('\t')[0], '0');
      assert.equal(Groups?.trim() ?? '', '');
      assert.equal(NoNewPrivs, '1');
      for (const set of ['CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb'])
        assert.equal(BigInt(`0x${rest[set]}`), KEPT, set);
    }
  });

  test('none of its threads has more', () => {
    for (const daemon of [pair.onAlice, pair.onBob]) {
      const tasks = `/proc/${daemon?.pid}/task`;
      const threads = readdirSync(tasks);
      assert.ok(threads.length > 1);
      for (const thread of threads) {
        const { Uid, NoNewPrivs, CapEff, CapPrm } = facts(`${tasks}/${thread}/status`);
        assert.equal(Uid, [NOBODY, NOBODY, NOBODY, NOBODY].join('\t'));
        assert.equal(NoNewPrivs, '1');
        for (const set of [CapEff, CapPrm]) assert.equal(BigInt(`0x${set}`) & ~KEPT, 0n);
      }
    }
  });

  test('its memory is closed to other processes of the same user, and goes into no core file', async () => {
    // Files of /proc that give access to memory belong to root then: proc(5), PR_SET_DUMPABLE.
    assert.equal(statSync(`/proc/${pair.onAlice?.pid}/mem`).uid, 0);
    const { code } = await pair.alice.run('cat', [`/proc/${pair.onAlice?.pid}/environ`], { uid: NOBODY });
    assert.notEqual(code, 0);
  });

  test('and still it does all its work, and leaves nothing behind', async () => {
    const port = 7901;
    pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'client'), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
    const { stdout, stderr } = await pair.alice.run(
      ...python(MANY, 'call', pair.bob.address4, `${port}`, 'client', '100', '10'),
    );
    assert.deepEqual(JSON.parse(String(stdout)), { done: 100, failed: 0, failures: [] }, stderr);
    await pair.assertRelayed(port, 100);
    const socket = `/run/tcpcrypt/net-${statSync(pair.alice.namespacePath, { bigint: true }).ino}.sock`;
    assert.ok(existsSync(socket));
    assert.equal(await pair.onAlice?.stop(), 0);
    assert.ok(!existsSync(socket));
    assert.equal(pair.alice.enter('nft', ['list', 'ruleset']).trim(), '');
    assert.doesNotMatch(pair.alice.enter('ip', ['rule']), /8547/);
  });

  test('a user who does not exist is a clear error, and nothing is left of the attempt', async () => {
    const pins = pair.kernelPart(pair.alice);
    const { code, stderr } = await pair.alice.run(process.execPath, [
      ...[main, 'daemon', '--pins', pins, '--user', 'no-such-user'],
    ]);
    assert.equal(code, 2);
    assert.match(stderr, /there is no user no-such-user: useradd/);
    assert.equal(pair.alice.enter('nft', ['list', 'ruleset']).trim(), '');
  });

  test('--user root stays root', async () => {
    const daemon = await pair.daemon(pair.alice, ['--user', 'root']);
    assert.match(facts(`/proc/${daemon.pid}/status`).Uid ?? '', /^0\t/);
    await daemon.stop();
  });
});
