/** What unmodified programs ask of the daemons that carry their connections, by setsockopt on their own sockets. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { TCP_CRYPT, TCP_ENO } from '#src/kernel/eno-socket.js';
import { call, type Exchange, int, type Settings, serve } from './support/options.js';
import { Pair, python, skip } from './support/pair.js';
import { policyFile } from './support/policies.js';

const { ENABLED, TEPS, SELF_GOPT, AA_MANDATORY, TEP_MANDATORY } = TCP_ENO;
const { ACONF, BCONF, CACHE_FLUSH } = TCP_CRYPT;
const AWARE = 2;

describe('wishes of programs behind the daemon', { skip }, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('both ends');
  });
  after(() => pair?.close());

  let port = 7300;
  /** A new server with these options, and `count` connections to it one after the other; what the last of them saw. */
  const exchange = async (client: Settings, server: Settings, count = 1): Promise<Exchange> => {
    port++;
    await serve(pair.bob, '0.0.0.0', port, server);
    let seen = await call(pair.alice, pair.bob.address4, port, client);
    for (let i = 1; i < count; i++) seen = await call(pair.alice, pair.bob.address4, port, client);
    return seen;
  };
  const assertPlain = ({ client, server }: Exchange): void => {
    assert.equal(client.SESSID, 'EINVAL');
    assert.equal(server.SESSID, 'EINVAL');
  };
  const assertEncrypted = ({ client, server }: Exchange): void => {
    assert.match(client.SESSID, /^[2a][0-9a-f]{65}$/);
    assert.equal(client.SESSID, server.SESSID);
  };

  test('API-9: TCP_ENO_ENABLED 0: plain, whichever end says so', async () => {
    assertPlain(await exchange([[ENABLED, 0]], []));
    assertPlain(await exchange([], [[ENABLED, 0]]));
    assertPlain(await exchange([[TEPS, '']], []));
    assertEncrypted(await exchange([[ENABLED, 1]], [[ENABLED, 1]]));
  });

  test('ENO-20: the a bit is set and read by applications behind the daemon', async () => {
    const both = await exchange([[SELF_GOPT, AWARE]], [[SELF_GOPT, AWARE]]);
    assertEncrypted(both);
    assert.equal(both.client.PEER_GOPT, int(3));
    assert.equal(both.server.PEER_GOPT, int(2));
    const one = await exchange([[SELF_GOPT, AWARE]], []);
    assert.equal(one.client.PEER_GOPT, int(1));
    assert.equal(one.server.PEER_GOPT, int(2));
  });

  test('a server on all IPv6 addresses is heeded for IPv6 and IPv4 clients, one on a single address for that', async () => {
    const { address4, address6 } = pair.bob;
    for (const [bound, ...addresses] of [
      ['::', address6, address4],
      [address6, address6],
    ] as const) {
      port++;
      await serve(pair.bob, bound, port, [[SELF_GOPT, AWARE]]);
      for (const address of addresses) {
        const seen = await call(pair.alice, address, port, [[SELF_GOPT, AWARE]]);
        assertEncrypted(seen);
        assert.equal(seen.client.PEER_GOPT, int(3), `${bound} ${address}`);
      }
    }
  });

  test('API-5, ENO-21: mandatory application-aware mode, at either end', async () => {
    assertPlain(await exchange([[AA_MANDATORY, 1]], []));
    assertPlain(await exchange([], [[AA_MANDATORY, 1]]));
    assertEncrypted(await exchange([[AA_MANDATORY, 1]], [[SELF_GOPT, AWARE]]));
    assertEncrypted(await exchange([[SELF_GOPT, AWARE]], [[AA_MANDATORY, 1]]));
  });

  test('what was not set reads as what the daemon was told, in increasing preference', async () => {
    const read = async (): Promise<string> => {
      const { stdout } = await pair.alice.run(
        ...python(`
import socket
s = socket.socket()
for option in (1029, 1046, 1047):
    try: print(s.getsockopt(socket.IPPROTO_TCP, option, 64).hex())
    except OSError as error: print(error.errno)`),
      );
      return `${stdout}`.trim().replaceAll('\n', ' ');
    };
    assert.equal(await read(), '212423 001000020001 001000020001');
    await pair.onAlice?.stop();
    assert.equal(await read(), '61 61 61'); // ENODATA
    pair.onAlice = await pair.daemon(pair.alice, ['--tep', 'p256']);
    assert.match(await read(), /^21 /);
    await pair.onAlice.stop();
    pair.onAlice = await pair.daemon(pair.alice);
  });

  test('TEPs, in increasing preference of the server; none in common: plain', async () => {
    assert.equal((await exchange([[TEPS, '2124']], [])).client.NEGTEP, int(0x24));
    assert.equal((await exchange([], [[TEPS, '2321']])).server.NEGTEP, int(0x21));
    assert.equal((await exchange([[TEPS, 'a1']], [[TEPS, '2321']])).client.NEGTEP, int(0x21));
    assertPlain(await exchange([], [[TEPS, '22']])); // which the daemons do not speak unless told to
  });

  test('API-11: AEADs: any order in role A, increasing preference in role B', async () => {
    const asked = await exchange([[ACONF, '0010']], []);
    assert.deepEqual([asked.client.CONF, asked.server.CONF], [int(0x10), int(0x10)]);
    const chosen = await exchange([], [[BCONF, '000100100002']]);
    assert.deepEqual([chosen.client.CONF, chosen.server.CONF], [int(2), int(2)]);
  });

  test('API-10: after TCP_CRYPT_CACHE_FLUSH nothing is resumed, whichever end says so', async () => {
    assert.match((await exchange([], [], 2)).client.SESSID, /^a3/);
    assert.match((await exchange([[CACHE_FLUSH, 1]], [], 2)).client.SESSID, /^23/);
    assert.match((await exchange([], [[CACHE_FLUSH, 1]], 2)).client.SESSID, /^23/);
  });

  test('API-10: TCP_CRYPT_CACHE_FLUSH on a connection: it cannot be resumed', async () => {
    await exchange([], [], 2);
    const again = (late: Settings = []) => call(pair.alice, pair.bob.address4, port, [], 0, late);
    assert.match((await again([[CACHE_FLUSH, 1]])).client.SESSID, /^a3/);
    assert.match((await again()).client.SESSID, /^23/);
    assert.match((await again()).client.SESSID, /^a3/);
  });

  test('API-6: TCP_ENO_TEP_MANDATORY: encrypted or not at all, also where the destination is known to be plain', async () => {
    assertEncrypted(await exchange([[TEP_MANDATORY, 1]], [[TEP_MANDATORY, 1]]));
    assert.equal((await exchange([[TEP_MANDATORY, 1]], [[ENABLED, 0]], 2)).error, 'ECONNREFUSED');
    assert.equal(
      (
        await exchange(
          [
            [TEP_MANDATORY, 1],
            [ENABLED, 0],
          ],
          [],
        )
      ).error,
      'ECONNREFUSED',
    );
    assert.match(
      (await exchange([[ENABLED, 0]], [[TEP_MANDATORY, 1]])).error ?? '',
      /ECONNRESET|ENOTCONN|EPIPE/,
    );
  });

  test('the policy has the last word: under private, TCP_ENO_ENABLED 0 is refused, whichever end says so', async () => {
    const [outbound, inbound] = [++port, ++port];
    await pair.onAlice?.stop();
    await pair.onBob?.stop();
    const rule = (direction: string, to: number): string =>
      `[[rule]]\naction = "private"\ndirection = "${direction}"\nport = ${to}\n`;
    const policy = policyFile(pair.lab, rule('outbound', outbound) + rule('inbound', inbound));
    pair.onAlice = await pair.daemon(pair.alice, ['--policy', policy]);
    pair.onBob = await pair.daemon(pair.bob, ['--policy', policy]);
    const { address4 } = pair.bob;

    await serve(pair.bob, '0.0.0.0', outbound);
    assertEncrypted(await call(pair.alice, address4, outbound));
    assert.equal((await call(pair.alice, address4, outbound, [[ENABLED, 0]])).error, 'ECONNREFUSED');

    await serve(pair.bob, '0.0.0.0', inbound, [[ENABLED, 0]]);
    const { error, server } = await call(pair.alice, address4, inbound);
    assert.match(error ?? '', /ECONN/);
    assert.equal(server, undefined);
  });
});
