/**
 * Whole connections on paths of all kinds. What must hold is written in connection.ts; here is what is tried.
 * `npm run fuzz -- connection` goes on for as long as one likes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AEADS, type AeadId, TEPS, type TepId } from '#src/wire/index.js';
import { minimise } from '../fuzz/mutate.js';
import { RandomOfBytes, SeededRandom } from '../support/random.js';
import {
  type ConnectionPlan,
  HOST,
  PATH,
  type Result,
  runScenario,
  type Step,
  scenarioOf,
  type Weather,
} from './connection.js';
import type { HostSettings } from './host.js';
import { SIDES, type Side, type Strip } from './path.js';
import { carriesEno, describe } from './segment.js';

/** As many scenarios as `runs`, from one seed: RIG_SEED=… repeats it, RIG_RUNS=… takes more. */
function explore(weather: Weather, runs: number): Result[] {
  const seed = Number(process.env.RIG_SEED ?? Math.floor(Math.random() * 2 ** 32));
  const random = new SeededRandom(seed);
  const results: Result[] = [];
  for (let run = 0; run < Number(process.env.RIG_RUNS ?? runs); run++) {
    const input = random.bytes(60 + random.below(200));
    try {
      results.push(...runScenario(scenarioOf(new RandomOfBytes(input), weather)));
    } catch (error) {
      const { message } = error as Error;
      const small = minimise(input, (bytes) => fails(bytes, weather) === message, performance.now() + 10_000);
      const scenario = JSON.stringify(scenarioOf(new RandomOfBytes(small), weather));
      throw new Error(`RIG_SEED=${seed}, run ${run}: ${message}\n${scenario}`, { cause: error });
    }
  }
  return results;
}

function fails(input: Uint8Array, weather: Weather): string | undefined {
  try {
    runScenario(scenarioOf(new RandomOfBytes(input), weather));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

test('ENO-36, TC-5, TC-6, TC-32, TC-37: property: on an honest path all that was written arrives, encrypted, and the end', () => {
  const results = explore('honest', 500);
  const secure = results.filter(({ client, server }) => client.secure && server.secure);
  assert.ok(secure.length > 100);
  assert.ok(secure.some(({ client }) => client.session?.resumed));
  assert.ok(secure.some(({ client }) => client.generations.length > 2));
});

test('ENO-36: property: ENO options that disappear: plain on both ends, or a connection that fails', () => {
  const results = explore('stripping', 400);
  assert.ok(results.some(({ client, server }) => client.secure && server.secure));
});

test('ENO-49, ENO-54, TC-35, TC-37, TC-38, TC-46: property: tampering gives no wrong data and no clean end', () => {
  const results = explore('tampering', 500);
  const errors = new Set(results.flatMap(({ client, server }) => [client.error, server.error]));
  for (const code of ['ERR_TCPCRYPT_FRAME_AUTH', 'ERR_TCPCRYPT_FRAME_TRUNCATED'] as const)
    assert.ok(errors.has(code), code);
});

test('a scenario is the same again, segment by segment', () => {
  for (let seed = 0; seed < 20; seed++) {
    const trace = (): string[] => {
      const lines: string[] = [];
      runScenario(scenarioOf(new SeededRandom(seed)), (line) => lines.push(line));
      return lines;
    };
    const first = trace();
    assert.ok(first.length > 0);
    assert.deepEqual(trace(), first);
  }
});

// ---- Every TEP with every AEAD ----------------------------------------------------------------------------------

const both = (host: HostSettings): ConnectionPlan['hosts'] => ({ client: host, server: host });
const ids = <Id extends number>(table: { readonly [id in Id]: unknown }): Id[] =>
  Object.keys(table).map(Number) as Id[];

const talk: readonly Step[] = SIDES.flatMap((who): Step[] => [
  { after: 1, who, operation: { what: 'write', size: 3000 } },
  { after: 50, who, operation: { what: 'rekey' } },
  { after: 50, who, operation: { what: 'write', size: 100 } },
  { after: 200, who, operation: { what: 'end' } },
]);

const connect = (opener: Side | 'both', host: HostSettings, steps = talk): ConnectionPlan => {
  const hosts = both(host);
  const server = { ...host, eno: { ...host.eno, roleB: true } };
  return { opener, hosts: opener === 'both' ? { ...hosts, server } : hosts, path: PATH, steps };
};

for (const tep of ids<TepId>(TEPS))
  for (const cipher of ids<AeadId>(AEADS))
    test(`TC-17, TC-22, TC-28, TC-30, TC-45: ${TEPS[tep].name} with ${AEADS[cipher].name}: fresh, then resumed from either side and in a simultaneous open`, () => {
      const host: HostSettings = { ...HOST, eno: { ...HOST.eno, teps: [tep] }, ciphers: [cipher] };
      const connections = (['client', 'client', 'server', 'both'] as const).map((opener) =>
        connect(opener, host),
      );
      const results = runScenario({ seed: tep, connections });
      results.forEach(({ client, server }, index) => {
        for (const { session, endSeen, received, secure, sessionId } of [client, server]) {
          assert.deepEqual([secure, endSeen, received], [true, true, 3100]);
          assert.equal(session?.resumed, index > 0);
          assert.equal(session?.cipher, cipher);
          assert.equal(sessionId?.[0], index > 0 ? tep | 0x80 : tep);
        }
      });
    });

test('resumed connections carry data in the first flight after the handshake', () => {
  const steps: Step[] = [{ after: 0, who: 'client', operation: { what: 'write', size: 100 } }];
  const [, resumed] = runScenario({
    seed: 1,
    connections: [connect('client', HOST), connect('client', HOST, steps)],
  });
  assert.ok(resumed);
  const [syn, ack, data] = resumed.sent.client;
  assert.ok(syn?.syn && ack?.ack && data);
  assert.equal(data.data.length, 100 + 20);
  assert.equal(resumed.server.received, 100);
});

test('a resumption that fails on the way uses its secret up; the next one resumes, on both ends', () => {
  const lost: ConnectionPlan = {
    ...connect('client', HOST),
    path: { ...PATH, strip: { from: 'client', segments: 'syn' } },
  };
  const results = runScenario({
    seed: 1,
    connections: [connect('client', HOST), lost, lost, connect('client', HOST), connect('server', HOST)],
  });
  const kinds = results.map(({ client }) => client.session && (client.session.resumed ? 'resumed' : 'fresh'));
  assert.deepEqual(kinds, ['fresh', undefined, undefined, 'resumed', 'resumed']);
});

test('TC-4, TC-19: a peer that was restarted answers a resumption with a fresh exchange', () => {
  for (const restarted of SIDES) {
    const results = runScenario({
      seed: 1,
      connections: [
        connect('client', HOST),
        { ...connect('client', HOST), restarted },
        connect('client', HOST),
      ],
    });
    const kinds = results.map(
      ({ client }) => client.session && (client.session.resumed ? 'resumed' : 'fresh'),
    );
    assert.deepEqual(kinds, ['fresh', 'fresh', 'resumed']);
    assert.ok(results.every(({ client, server }) => client.endSeen && server.endSeen));
  }
});

// ---- Stripping, case by case ------------------------------------------------------------------------------------

const plain = (from: Strip['from'], segments: Strip['segments']): Result => {
  const plan = { ...connect('client', HOST), path: { ...PATH, strip: { from, segments } } };
  const [result] = runScenario({ seed: 3, connections: [plan] });
  assert.ok(result);
  return result;
};

test('ENO-28: a SYN or SYN-ACK that loses its option: plain TCP on both ends, and everything arrives', () => {
  for (const [from, segments] of [
    ['client', 'syn'],
    ['client', 'all'],
    ['server', 'syn'],
    ['server', 'all'],
    ['both', 'all'],
  ] as const) {
    const { client, server, sent } = plain(from, segments);
    for (const { outcome, received, endSeen } of [client, server])
      assert.deepEqual([outcome?.result, received, endSeen], ['plain', 3100, true], `${from} ${segments}`);
    const later = [...sent.client, ...sent.server].filter((segment) => !segment.syn);
    assert.ok(!later.some(carriesEno), `${from} ${segments}: no further ENO option`);
  }
});

test('options that disappear from the non-SYN segments of B: nothing is lost, as B sends none', () => {
  const { client, server } = plain('server', 'non-syn');
  assert.deepEqual([client.secure, server.secure, client.endSeen, server.endSeen], [true, true, true, true]);
});

test('ENO-36: options that disappear from the non-SYN segments of A only: A encrypts, B does not, the connection fails', () => {
  // The one case that RFC 8547 cannot help (§8.1, "type 2"): A saw a SYN-ACK with ENO and must encrypt (ENO-35), B
  // saw a first ACK without and must not (ENO-28). A neither takes nor gives plaintext. B's application may read the
  // bytes of Init1 (src/socket recognises them, and resets), until A resets the connection, at the first byte from B or
  // after the handshake timeout.
  const { client, server } = plain('client', 'non-syn');
  assert.equal(client.outcome?.result, 'encrypt');
  assert.equal(client.error, 'ERR_TCPCRYPT_INIT_MAGIC');
  assert.equal(client.received, 0);
  assert.deepEqual(server.outcome, { result: 'plain', reason: 'ERR_TCPCRYPT_ENO_NO_ACK' });
  assert.equal(server.resetSeen, 'reset');
  assert.equal(server.endSeen, false);
});

test('segments can be printed', () => {
  const [segment] = plain('server', 'non-syn').sent.client;
  assert.ok(segment);
  assert.match(describe(segment), /^\[S\] seq \d+ ack 0 length 0 ENO 450323$/);
});
