/** getsockopt(TCP_ENO_*) on the sockets of unmodified programs whose connections the daemons carry. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { call, int, type Seen, serve } from './support/options.js';
import { eventually, Pair, type Place, skip } from './support/pair.js';

/** Session IDs that a daemon logged about connections to `port`. */
const logged = (daemon: DaemonProcess | undefined): (string | undefined)[] =>
  (daemon?.lines ?? []).filter(({ event }) => event === 'secure').map(({ sessionId }) => sessionId);

function assertNames(seen: Seen, role: 'A' | 'B'): void {
  const [self, peer] = role === 'A' ? ['00', '01'] : ['01', '00'];
  assert.equal(seen.ROLE, int(role === 'A' ? 0 : 1));
  assert.equal(seen.SELF_NAME, self + seen.SESSID);
  assert.equal(seen.PEER_NAME, peer + seen.SESSID);
  assert.equal(seen.NEGTEP, int(Number.parseInt(seen.SESSID.slice(0, 2), 16)));
}

const LISTENERS = { IPv4: '0.0.0.0', IPv6: '::' } as const;

describe('the session ID of carried connections', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends', ['--no-resume']);
  });
  after(() => pair?.close());
  beforeEach(() => pair.forget());

  let port = 7000;
  for (const [client, server] of [
    ['IPv4', 'IPv4'],
    ['IPv6', 'IPv6'],
    ['IPv4', 'IPv6'], // the server's socket is an IPv6 one with mapped addresses
    ['mapped', 'IPv4'], // the client's is
  ] as const) {
    test(`ENO-61: both applications read the same ID on their own sockets (${client} client, ${server} server)`, async () => {
      port++;
      await serve(pair.bob, LISTENERS[server], port);
      const { address4, address6 } = pair.bob;
      const address = { IPv4: address4, IPv6: address6, mapped: `::ffff:${address4}` }[client];
      const ids: string[] = [];
      for (let i = 0; i < 3; i++) {
        const { client: alice, server: bob } = await call(pair.alice, address, port);
        assert.match(alice.SESSID, /^23[0-9a-f]{64}$/);
        assert.equal(alice.before, 'ENOTCONN');
        assert.equal(bob.at_once, alice.SESSID); // already when accept(2) returns
        assert.equal(bob.SESSID, alice.SESSID);
        assert.equal(bob.TRANSCRIPT, alice.TRANSCRIPT);
        assert.match(alice.TRANSCRIPT ?? '', /^45.*45040123$/);
        assert.equal(alice.PEER_GOPT, int(1));
        assert.equal(bob.PEER_GOPT, int(0));
        assert.deepEqual([alice.STATE?.slice(0, 8), bob.STATE?.slice(0, 8)], ['03000023', '03000123']);
        assertNames(alice, 'A');
        assertNames(bob, 'B');
        // A socket keeps its ID until it is closed.
        assert.equal(alice.after_end, alice.SESSID);
        assert.equal(bob.after_end, bob.SESSID);
        ids.push(alice.SESSID);
      }
      assert.equal(new Set(ids).size, 3);
      await pair.assertRelayed(port, 3);
      for (const daemon of [pair.onAlice, pair.onBob]) assert.deepEqual(logged(daemon), ids);
    });
  }

  test('a tuple that is used again has its own ID, or none when it is plain', async () => {
    port++;
    await serve(pair.bob, '0.0.0.0', port);
    const first = await call(pair.alice, pair.bob.address4, port, [], 40_123);
    const second = await call(pair.alice, pair.bob.address4, port, [], 40_123);
    assert.equal(second.client.SESSID, second.server.SESSID);
    assert.notEqual(second.client.SESSID, first.client.SESSID);

    // Killed: it could take nothing back.
    await pair.onAlice?.stop('SIGKILL');
    await eventually(() => assert.equal(pair.alice.enter('nft', ['list', 'tables']).trim(), ''));
    const { client, server } = await call(pair.alice, pair.bob.address4, port, [], 40_123);
    assert.equal(client.SESSID, 'EINVAL');
    assert.equal(server.SESSID, 'EINVAL');
    pair.onAlice = await pair.daemon(pair.alice, ['--no-resume']);
    const third = await call(pair.alice, pair.bob.address4, port, [], 40_123);
    assert.match(third.client.SESSID, /^23/);
    assert.equal(third.server.SESSID, third.client.SESSID);
  });
});

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
/** What `tcpcrypt connect` or `listen` says with --json when its connection becomes secure. */
const sessionId = (stderr: string): unknown =>
  stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .find(({ event }) => event === 'secure')?.sessionId;

test('a program that speaks tcpcrypt itself and one behind a daemon read the same ID', { skip }, async () => {
  const pair = await Pair.open('neither end');
  try {
    for (const host of [pair.alice, pair.bob]) pair.kernelPart(host);
    const bob = pair.bob.address4;

    pair.onBob = await pair.daemon(pair.bob);
    await serve(pair.bob, '0.0.0.0', 7200);
    const { stdout, stderr } = await pair.alice.run(
      process.execPath,
      [main, 'connect', bob, '7200', '--json', '--mode', 'required'],
      { input: 'x', timeoutMs: 30_000 },
    );
    const seen = JSON.parse(`${stdout}`) as Seen;
    assert.match(seen.SESSID, /^23/);
    assert.equal(sessionId(stderr), seen.SESSID);
    await pair.onBob.stop();

    pair.onAlice = await pair.daemon(pair.alice);
    const listening = pair.bob.run(process.execPath, [main, 'listen', '7201', '--json'], {
      input: '{}',
      timeoutMs: 30_000,
    });
    await pair.bob.waitForListener(7201, 20_000);
    const { client } = await call(pair.alice, bob, 7201);
    assert.match(client.SESSID, /^23/);
    assert.equal(sessionId((await listening).stderr), client.SESSID);
  } finally {
    await pair.close();
  }
});

for (const place of ['the client only', 'the server only'] satisfies Place[])
  test(`a connection that is plain has no ID, at either end (daemon at ${place})`, { skip }, async () => {
    const pair = await Pair.open(place);
    try {
      pair.kernelPart(pair.alice);
      pair.kernelPart(pair.bob);
      await serve(pair.bob, '0.0.0.0', 7100);
      // The first time it is relayed in plaintext, then it passes.
      for (let i = 0; i < 2; i++) {
        const { client, server } = await call(pair.alice, pair.bob.address4, 7100);
        for (const seen of [client, server]) {
          assert.equal(seen.SESSID, 'EINVAL');
          assert.equal(seen.ROLE, 'EINVAL');
          assert.equal(seen.TRANSCRIPT, 'EINVAL');
        }
      }
    } finally {
      await pair.close();
    }
  });
