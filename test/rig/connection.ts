/**
 * Whole connections between two hosts, and what must hold at their end whatever happened on the way. A scenario is
 * plain data, so a run can be repeated and made smaller.
 */
import assert from 'node:assert/strict';
import type { ErrorCode } from '#src/errors.js';
import type { AeadId, TepId } from '#src/wire/index.js';
import { type Random, SeededRandom } from '../support/random.js';
import { Clock } from './clock.js';
import { Host, type HostSettings, MARK, type Operation } from './host.js';
import { other, Path, type PathParameters, SIDES, type Side } from './path.js';
import { describe, type Segment } from './segment.js';
import { SessionCache } from './session-cache.js';

export interface Step {
  /** Milliseconds after the previous step. */
  readonly after: number;
  readonly who: Side;
  readonly operation: Operation;
}

export interface ConnectionPlan {
  /** 'both': simultaneous open. */
  readonly opener: Side | 'both';
  readonly hosts: { readonly [side in Side]: HostSettings };
  readonly path: PathParameters;
  readonly steps: readonly Step[];
  /** Restarted before this connection: what it kept for resumption is gone. */
  readonly restarted?: Side | undefined;
}

export interface Scenario {
  /** Of what the hosts and the path decide by chance. */
  readonly seed: number;
  /** One after the other; later ones may resume earlier ones. */
  readonly connections: readonly ConnectionPlan[];
}

export interface Result {
  readonly client: Host;
  readonly server: Host;
  readonly path: Path;
  /** All that each host gave to the path, in order. */
  readonly sent: { readonly [side in Side]: readonly Segment[] };
  readonly milliseconds: number;
}

/** A few hundred segments for each step, at the worst. */
const MAX_EVENTS = 200_000;

/** Runs all connections of a scenario and checks each of them. `log` hears of every segment. */
export function runScenario(scenario: Scenario, log?: (line: string) => void): Result[] {
  const random = new SeededRandom(scenario.seed);
  const caches = { client: new SessionCache(), server: new SessionCache() };
  const sessionIds = new Set<string>();
  const sealed = new Set<string>();
  return scenario.connections.map((plan) => {
    if (plan.restarted !== undefined) caches[plan.restarted] = new SessionCache();
    const result = run(plan, caches, random, sealed, log);
    check(plan, result);
    for (const side of SIDES) {
      const { sessionId, session } = result[side];
      if (sessionId === undefined) continue;
      const id = `${side} ${Buffer.from(sessionId).toString('hex')}`;
      assert.ok(!sessionIds.has(id), `ENO-57: two connections with the session ID ${id}`);
      assert.ok(session);
      sessionIds.add(id);
    }
    return result;
  });
}

function run(
  plan: ConnectionPlan,
  caches: { readonly [side in Side]: SessionCache },
  random: Random,
  sealed: Set<string>,
  log: ((line: string) => void) | undefined,
): Result {
  const clock = new Clock();
  const sent: { readonly [side in Side]: Segment[] } = { client: [], server: [] };
  const path = new Path(clock, new SeededRandom(random.next()), plan.path, (from, segment) => {
    sent[from].push(segment);
    log?.(`${clock.now.toString().padStart(6)} ${from} ${describe(segment)}`);
  });
  const host = (side: Side): Host =>
    new Host(side, plan.opener === side || plan.opener === 'both', plan.hosts[side], caches[side], {
      clock,
      random,
      sealed,
      send: (segment) => path.send(side, segment),
    });
  const hosts = { client: host('client'), server: host('server') };
  for (const side of SIDES) {
    path.attach(side, (segment) => hosts[side].tcp.receive(segment));
    if (plan.opener === side || plan.opener === 'both') hosts[side].tcp.connect();
    else hosts[side].tcp.listen();
  }
  let at = 0;
  for (const { after, who, operation } of plan.steps) {
    at += after;
    clock.after(at, () => hosts[who].do(operation));
  }
  for (const side of SIDES) clock.after(at + 1, () => hosts[side].do({ what: 'resume' }));
  clock.run(MAX_EVENTS);
  return { ...hosts, path, sent, milliseconds: clock.now };
}

// ---- What must hold ---------------------------------------------------------------------------------------------

function check(plan: ConnectionPlan, result: Result): void {
  for (const side of SIDES) checkEnd(plan, result, side);
  checkBoth(plan, result);
}

const encrypts = (host: Host): boolean => host.outcome?.result === 'encrypt';

/** Nothing that one host has seen contradicts what the other one did. */
function checkEnd(plan: ConnectionPlan, result: Result, side: Side): void {
  const self = result[side];
  const peer = result[other(side)];
  const where = `${side}: `;
  const wrongBytesAllowed = !encrypts(self) && (result.path.tampered || encrypts(peer));
  if (!wrongBytesAllowed) {
    assert.ok(self.intact, `${where}wrong bytes`);
    assert.ok(self.received <= peer.written, `${where}more bytes than were sent`);
    if (self.endSeen) {
      assert.ok(peer.ended, `${where}an end that the peer did not send`);
      assert.equal(self.received, peer.written, `${where}the end before all bytes`);
    }
  }
  if (!encrypts(self)) return;
  // ENO-36, TC-5: no plaintext leaves an end that encrypts.
  for (const { data } of result.sent[side])
    assert.ok(
      !Buffer.from(data.buffer, data.byteOffset, data.length).includes(MARK),
      `${where}plaintext sent`,
    );
  if (self.received > 0 || self.endSeen)
    assert.deepEqual(self.sessionId, peer.sessionId, `${where}data under different session IDs`);
  assert.deepEqual(
    self.generations,
    self.generations.map((_, i) => i + 1),
    `${where}generations come one by one`,
  );
  checkStream(plan, result, side);
}

/** Frames as they left the host: RFC 8548 §3.3, §3.6, §3.8. */
function checkStream(_plan: ConnectionPlan, result: Result, side: Side): void {
  const { session } = result[side];
  const { stream, pushes } = streamOf(result.sent[side]);
  if (session === undefined) return;
  let at = 0;
  if (!session.resumed && stream.length >= 8) {
    at = stream.readUInt32BE(4);
    if (stream.length >= at) assert.ok(pushes.has(at), `${side}: TC-6: no PSH behind the Init message`);
  }
  while (at + 3 <= stream.length) {
    assert.ok(stream.readUInt8(at) <= 1, `${side}: TC-34: reserved bits`);
    assert.ok(stream.readUInt16BE(at + 1) >= 17, `${side}: clen`);
    at += 3 + stream.readUInt16BE(at + 1);
  }
}

/** The two ends agree on what kind of connection it is. */
function checkBoth(plan: ConnectionPlan, result: Result): void {
  const { client, server, path } = result;
  const { strip } = plan.path;
  if (encrypts(client) !== encrypts(server) && client.outcome !== undefined && server.outcome !== undefined) {
    // The one case that RFC 8547 cannot help (§8.1, "type 2"): A's ENO options disappear once B has answered with
    // one. A has every reason to encrypt, and B none. A never takes nor gives plaintext, so the connection fails.
    const encrypting = encrypts(client) ? client : server;
    if (plan.opener !== 'both') assert.equal(encrypting.session?.role, 'A');
    assert.ok(strip !== undefined || path.tampered, 'one end encrypts and the other does not');
    assert.equal(encrypting.received, 0);
    assert.equal(encrypting.endSeen, false);
    assert.ok(!encrypting.open || encrypting.session?.resumed, 'the encrypting end does not wait for ever');
  }
  if (strip !== undefined || path.tampered) return;
  if (client.outcome !== undefined && server.outcome !== undefined)
    assert.equal(client.outcome.result, server.outcome.result, 'both ends make the same of the options');
  if (client.secure && server.secure) {
    assert.deepEqual(client.sessionId, server.sessionId);
    assert.equal(client.session?.cipher, server.session?.cipher);
    assert.equal(client.session?.resumed, server.session?.resumed);
    assert.notEqual(client.session?.role, server.session?.role);
  }
  const reset = [client, server].some(({ resetByUs, resetSeen }) => resetByUs || resetSeen !== undefined);
  const possible: (ErrorCode | undefined)[] = [undefined, 'ERR_TCPCRYPT_INIT_NO_CIPHER'];
  const slow = plan.path.loss > 0 || plan.steps.some(({ operation }) => operation.what === 'pause');
  if (slow) possible.push('ERR_TCPCRYPT_HANDSHAKE_TIMEOUT');
  for (const side of SIDES)
    assert.ok(
      reset || possible.includes(result[side].error),
      `${side}: ${result[side].error} on an honest path`,
    );
  if (reset || client.error !== undefined || server.error !== undefined) return;
  // An honest path and no reset: everything arrives.
  for (const side of SIDES) {
    const self = result[side];
    const peer = result[other(side)];
    assert.equal(self.received, peer.written, `${side}: not all bytes arrived`);
    assert.equal(self.endSeen, peer.ended, `${side}: TC-37: the end`);
  }
  checkGenerations(result);
}

/** TC-40: who is not at the end of its stream has caught up. */
function checkGenerations({ client, server }: Result): void {
  const seen = { client: client.generations.length, server: server.generations.length };
  if (!server.ended) assert.ok(seen.client >= seen.server, 'TC-40: the server owes generations');
  if (!client.ended) assert.ok(seen.server >= seen.client, 'TC-40: the client owes generations');
}

/** The stream that a host sent, and the places behind which a segment with PSH ended. */
export function streamOf(segments: readonly Segment[]): { stream: Buffer; pushes: ReadonlySet<number> } {
  const syn = segments.find((segment) => segment.syn);
  const pushes = new Set<number>();
  const parts: { at: number; data: Uint8Array }[] = [];
  let length = 0;
  for (const { seq, data, psh, syn: isSyn, rst } of segments) {
    if (syn === undefined || isSyn || rst || data.length === 0) continue;
    const at = (seq - syn.seq - 1) | 0;
    parts.push({ at, data });
    length = Math.max(length, at + data.length);
    if (psh) pushes.add(at + data.length);
  }
  const stream = Buffer.alloc(length);
  for (const { at, data } of parts) stream.set(data, at);
  return { stream, pushes };
}

// ---- Scenarios --------------------------------------------------------------------------------------------------

/** Mostly with X25519, so that most pairs of hosts have something in common. */
const TEP_LISTS: readonly [readonly [TepId, ...TepId[]], ...(readonly [TepId, ...TepId[]])[]] = [
  [0x23],
  [0x21],
  [0x24],
  [0x23, 0x21],
  [0x21, 0x23],
  [0x24, 0x23, 0x21],
  [0x23, 0x24],
  [0x22, 0x23],
];
const CIPHER_LISTS: readonly [readonly [AeadId, ...AeadId[]], ...(readonly [AeadId, ...AeadId[]])[]] = [
  [1],
  [2],
  [16],
  [1, 2, 16],
  [16, 1],
];

/** A quiet host with what everybody has. */
export const HOST: HostSettings = {
  eno: { speaksEno: true, teps: [0x23], aware: false, mandatoryAware: false, synTries: 2, roleB: false },
  ciphers: [1],
  nonceLength: 8,
  tcp: { mss: 1448, ragged: false, receiveBuffer: 65_536 },
  maxFrameData: 65_518,
  rekeyAfterBytes: 2 ** 36,
};

export const PATH: PathParameters = {
  delay: 10,
  jitter: 0,
  loss: 0,
  copies: 0,
  cuts: 0,
  strip: undefined,
  tamper: undefined,
};

/** What the path may do to a connection of a generated scenario. */
export type Weather = 'honest' | 'stripping' | 'tampering' | 'any';

/** Choice 0 is the ordinary one everywhere, so that a scenario of few bytes is a simple one. */
export function scenarioOf(random: Random, weather: Weather = 'any'): Scenario {
  const seed = random.next();
  const base = { client: hostOf(random), server: hostOf(random) };
  const count = 1 + random.below(3);
  return {
    seed,
    connections: Array.from({ length: count }, () => connectionOf(random, base, weather)),
  };
}

function connectionOf(
  random: Random,
  base: { readonly [side in Side]: HostSettings },
  weather: Weather,
): ConnectionPlan {
  const opener = random.pick<Side | 'both'>(['client', 'client', 'server', 'both']);
  const roleB = random.below(8) !== 7;
  const server = { ...base.server, eno: { ...base.server.eno, roleB: opener === 'both' && roleB } };
  return {
    opener,
    hosts: { client: base.client, server },
    path: pathOf(random, weather),
    restarted: random.pick([undefined, undefined, undefined, undefined, undefined, ...SIDES]),
    steps: Array.from({ length: random.below(14) }, () => stepOf(random)),
  };
}

function hostOf(random: Random): HostSettings {
  const unusual = random.chance(30);
  return {
    eno: {
      speaksEno: !(unusual && random.chance(20)),
      teps: unusual ? random.pick(TEP_LISTS) : [0x23],
      aware: random.chance(30),
      mandatoryAware: unusual && random.chance(20),
      synTries: unusual ? random.between(0, 3) : 2,
      roleB: false,
    },
    ciphers: unusual ? random.pick(CIPHER_LISTS) : [1],
    nonceLength: unusual ? random.between(0, 8) : 8,
    tcp: {
      mss: random.pick([1448, 1448, 536, 9000, 100]),
      ragged: random.chance(30),
      receiveBuffer: random.pick([65_536, 65_536, 4000, 1_000_000]),
    },
    maxFrameData: random.pick([65_518, 65_518, 1000, 300]),
    rekeyAfterBytes: random.pick([2 ** 36, 2 ** 36, 5000, 500]),
  };
}

function pathOf(random: Random, weather: Weather): PathParameters {
  const bad = random.chance(60);
  const kind = weather === 'any' ? random.pick<Weather>(['honest', 'stripping', 'tampering']) : weather;
  return {
    delay: random.pick([10, 0, 100]),
    jitter: bad ? random.pick([0, 30, 3000]) : 0,
    loss: bad ? random.pick([0, 2, 20]) : 0,
    copies: bad ? random.pick([0, 20]) : 0,
    cuts: bad ? random.pick([0, 50]) : 0,
    strip:
      kind === 'stripping'
        ? {
            from: random.pick<Side | 'both'>(['client', 'server', 'both']),
            segments: random.pick<'syn' | 'non-syn' | 'all' | 'some'>(['syn', 'non-syn', 'all', 'some']),
          }
        : undefined,
    tamper:
      kind === 'tampering'
        ? {
            from: random.pick(SIDES),
            at: random.below(random.pick([4, 40, 200])),
            how: random.pick([
              'flip',
              'replace',
              'forge',
              'replay',
              'reflect',
              'fin',
              'no-fin',
              'rst',
              'eno',
            ]),
          }
        : undefined,
  };
}

function stepOf(random: Random): Step {
  const after = random.pick([0, 1, 20, 300, 5000]);
  const who = random.pick(SIDES);
  const operation = random.pick<() => Operation>([
    () => ({ what: 'write', size: random.below(100) }),
    () => ({ what: 'write', size: random.below(3000) }),
    () => ({ what: 'write', size: random.below(random.pick([3000, 40_000])) }),
    () => ({ what: 'rekey' }),
    () => ({ what: 'rekey' }),
    () => ({ what: 'pause' }),
    () => ({ what: 'resume' }),
    () => ({ what: 'end' }),
    () => ({ what: random.below(4) === 3 ? 'reset' : 'end' }),
  ])();
  return { after, who, operation };
}
