/** Who means the daemon no good disturbs nobody else, and holds nothing of it for long. */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { Host } from '#src/lab/host.js';
import { killGroup } from '#src/lab/netns.js';
import { LORIS, SYN_FLOOD } from './support/flood.js';
import { assertEncrypted, assertWorks, echo, sheddingLines, standing, status } from './support/load.js';
import { eventually, Pair, python, skip } from './support/pair.js';

describe('a hostile client', { skip }, () => {
  let pair: Pair;
  let port = 8100;
  afterEach(() => pair?.close());

  let carol: Host;
  beforeEach(async () => {
    pair = await Pair.open('neither end');
    pair.onAlice = await pair.daemon(pair.alice);
    pair.onBob = await pair.daemon(pair.bob);
    carol = pair.lab.host('carol');
    pair.kernelPart(carol);
  });

  async function loris(count: number, word: string) {
    const to = await echo(pair, ++port);
    const client = carol.spawn(...python(LORIS, pair.bob.address4, `${to}`, `${count}`, word), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(client.stdout);
    const said: string[] = [];
    createInterface({ input: client.stdout }).on('line', (line) => said.push(line));
    await eventually(() => assert.equal(said[0], 'open'), 60_000);
    return { said, client };
  }

  test('half-open key exchanges: others go on; the oldest are given up, the rest in time', async () => {
    const count = 1300;
    const { said } = await loris(count, '');
    // The last ones may wait to be accepted.
    await eventually(async () => {
      const { connections, shed } = await status(pair.bob);
      assert.ok(connections.handshake <= 1024);
      assert.ok((shed.handshakes ?? 0) >= count - 1024, JSON.stringify({ connections, shed }));
    });
    assert.equal(sheddingLines(pair.onBob).length, 1);
    pair.forget();
    await assertWorks(pair, ++port, 100, 10);
    await assertEncrypted(pair, port, 100);
    await eventually(() => assert.equal(said[1], `${count}`), 60_000);
    const after = await status(pair.bob);
    assert.equal(after.connections.inbound, 0);
    assert.ok((after.failures.ERR_TCPCRYPT_HANDSHAKE_TIMEOUT ?? 0) > 0);
    assert.ok((after.failures.ERR_TCPCRYPT_OVERLOAD ?? 0) >= count - 1024);
  });

  test('garbage instead of a key exchange: reset at once, counted by its reason', async () => {
    const { said } = await loris(200, 'GET / HTTP/1.1');
    await eventually(() => assert.equal(said[1], '200'));
    const { failures, connections } = await status(pair.bob);
    assert.equal(failures.ERR_TCPCRYPT_INIT_MAGIC, 200);
    assert.equal(connections.inbound, 0);
    await assertWorks(pair, ++port, 20, 5);
    await assertEncrypted(pair, port, 20);
  });

  test('a flood of SYNs that nobody follows up: others connect all the same', async () => {
    const to = await echo(pair, ++port);
    // The kernel there must not take the half-open connections back.
    carol.enter(
      'nft',
      ['-f', '-'],
      'table ip mute { chain o { type filter hook output priority 0; tcp flags rst drop; }; }',
    );
    const flood = carol.spawn(...python(SYN_FLOOD, carol.address4, pair.bob.address4, `${to}`, '20000'), {
      stdio: 'ignore',
    });
    await assertWorks(pair, ++port, 50, 5);
    const connections = await standing(pair, to, 10);
    connections.close();
    killGroup(flood);
    assert.ok(pair.onBob?.running);
  });
});
