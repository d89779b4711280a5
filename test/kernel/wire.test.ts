/** What is on the wire, segment by segment: the kernel under test against a peer made of raw packets (wire.py). */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { lab } from './lab.js';

interface Row {
  name: string;
  opener: 'active' | 'passive';
  offer_contents?: string;
  third_ack_has_eno?: boolean;
  synack_option?: string | null;
  result: 'encrypt' | 'plain';
  role?: 'A' | 'B';
  tep_byte?: number;
  peer_aware?: boolean;
  transcript?: string;
  reason?: string;
}

interface State {
  phase: number;
  reason: number;
  role: number;
  tep: number;
  peer_gopt: number;
  syns: number;
  transcript: string;
}

const EOPNOTSUPP = 95;
const ENCRYPTING = 3;
const PLAIN = 4;
/** enum tcp_eno_reason, by the hints of the vectors. */
const REASONS: Record<string, number> = {
  'no-eno': 1,
  'ill-formed': 2,
  'multiple-eno': 3,
  vacuous: 4,
  'same-b': 5,
  'no-valid-tep': 6,
  'first-ack-without-eno': 7,
  'peer-not-aware': 12,
};

lab();

/** Runs one scenario of wire.py in a network namespace of its own. */
async function wire<T>(scenario: string, ...args: unknown[]): Promise<T> {
  const { stdout } = await promisify(execFile)(
    'unshare',
    ['--net', 'python3', resolve('test/kernel/wire.py'), scenario, ...args.map((arg) => JSON.stringify(arg))],
    { maxBuffer: 1 << 24 },
  );
  return JSON.parse(stdout) as T;
}

const { vectors: rows } = JSON.parse(readFileSync('test/vectors/eno-negotiation.json', 'utf8')) as {
  vectors: Row[];
};

test(`ENO-5, ENO-16, ENO-20, ENO-21, ENO-23, ENO-24, ENO-25, ENO-27, ENO-28, ENO-29, ENO-31, ENO-35, ENO-37, TC-4, TC-20, TC-21: ${rows.length} connections of the test vectors, packet by packet`, async () => {
  const seen = await wire<{ syn?: string; synack?: string | null; ack?: string | null; state: State }[]>(
    'vectors',
    rows,
  );
  assert.equal(seen.length, rows.length);
  for (const [i, row] of rows.entries()) {
    const got = seen[i];
    const where = `${row.name}: ${JSON.stringify(got)}`;
    assert.ok(got !== undefined, where);
    if (row.opener === 'active') {
      const offer = row.offer_contents ?? '';
      assert.equal(got.syn, `45${(offer.length / 2 + 2).toString(16).padStart(2, '0')}${offer}`, where);
      assert.equal(got.ack, row.third_ack_has_eno ? '4502' : null, where);
    } else assert.equal(got.synack, row.synack_option ?? null, where);
    if (row.result === 'encrypt') {
      assert.equal(got.state.phase, ENCRYPTING, where);
      assert.equal(got.state.transcript, row.transcript, where);
      assert.equal(got.state.role, row.role === 'A' ? 0 : 1, where);
      assert.equal(got.state.tep, row.tep_byte, where);
      assert.equal((got.state.peer_gopt & 2) !== 0, row.peer_aware, where);
    } else {
      assert.equal(got.state.phase, PLAIN, where);
      assert.equal(got.state.reason, REASONS[row.reason?.split(':')[0] ?? ''], where);
    }
  }
});

test('ENO-32, ENO-33: SYNs carry the same option until the tries are used up; then ENO is off, whatever answers', async () => {
  const seen = await wire<Record<string, unknown>>('syn_retransmission');
  assert.deepEqual(seen[1], ['450323', null]);
  assert.deepEqual(seen[2], ['450323', '450323', null]);
  for (const tries of [1, 2]) {
    assert.equal(seen[`ack${tries}`], null);
    const { phase, reason, syns } = seen[`state${tries}`] as State;
    assert.deepEqual({ phase, reason, syns }, { phase: PLAIN, reason: 8, syns: tries });
  }
});

test('ENO-32: a SYN-ACK is repeated with the same option, to a repeated SYN and by the timer', async () => {
  const [first, again, timer, state] = await wire<[string, string, string, State]>('synack_retransmission');
  assert.deepEqual([first, again, timer], ['45040123', '45040123', '45040123']);
  assert.equal(state.phase, ENCRYPTING);
});

test('ENO-28: a SYN repeated without ENO: the opener has ENO off and its first ACK says so', async () => {
  const state = await wire<State>('syn_again', '', '');
  assert.deepEqual([state.phase, state.reason], [PLAIN, REASONS['first-ack-without-eno']]);
});

test('ENO-27: the first ACK may be a later segment, with data; our own non-SYN segments carry no ENO', async () => {
  const [state, data, ...ours] = await wire<[State, string, unknown, unknown]>('first_ack_lost');
  assert.equal(state.phase, ENCRYPTING);
  assert.equal(data, 'data');
  assert.deepEqual(ours, [
    ['.', 0, null],
    ['.', 1, null],
  ]);
});

test('ENO-26: the active opener’s segments carry ENO until it has received a non-SYN segment', async () => {
  assert.deepEqual(await wire('acknowledging'), [
    ['.', 0, '4502'],
    ['.', 3, '4502'],
    ['.', 0, '4502'], // the SYN-ACK came again: it is a SYN segment
    1,
    ['.', 3, null],
    0,
  ]);
});

test('a SYN cookie never comes with ENO', async () => {
  const [synack, state] = await wire<[string | null, State]>('syn_cookies');
  assert.equal(synack, null);
  assert.equal(state.phase, PLAIN);
});

test('ENO-18, ENO-23, ENO-32: simultaneous open: works when exactly one side has b=1, in either role', async () => {
  const [syn, synack, first, state] = await wire<[unknown, unknown, unknown, State]>(
    'simultaneous',
    '23',
    '0123',
  );
  assert.deepEqual(
    [syn, synack, first],
    [
      ['S', 0, '450323'],
      ['S.', 0, '450323'],
      ['.', 1, '4502'],
    ],
  );
  assert.deepEqual([state.phase, state.role, state.transcript], [ENCRYPTING, 0, '45032345040123']);

  const [, , , other] = await wire<[unknown, unknown, unknown, State]>('simultaneous', '012421', '2124');
  assert.deepEqual([other.phase, other.role, other.tep], [ENCRYPTING, 1, 0x21]); // host B is we: our last one

  const [, , plain, same] = await wire<[unknown, unknown, unknown, State]>('simultaneous', '23', '23');
  assert.deepEqual([same.phase, same.reason, plain], [PLAIN, REASONS['same-b'], ['.', 1, null]]);
});

test('ENO-1, ENO-4, ENO-7: two ordinary programs: option 69 on SYN, SYN-ACK and first ACK, and on no segment after B has answered', async () => {
  const segments = await wire<[string, string, number, string | null][]>('capture');
  assert.deepEqual(segments.slice(0, 3), [
    ['A', 'S', 0, '45042321'],
    ['B', 'S.', 0, '45040123'],
    ['A', '.', 0, '4502'],
  ]);
  const answered = segments.findIndex(([end, flags]) => end === 'B' && !flags.includes('S'));
  assert.ok(answered > 0 && answered < segments.length - 2);
  for (const [i, segment] of segments.slice(3).entries())
    assert.equal(
      segment[3],
      segment[0] === 'A' && i + 3 < answered ? '4502' : null,
      JSON.stringify(segments),
    );
});

interface SynData {
  acknowledged: number;
  eno: string | null;
  received: string;
  refused: number;
  state: State;
}

/** net.ipv4.tcp_fastopen: servers may; every listener has it, and no cookie is needed. */
const FAST_OPEN_EVERYWHERE = 0x603;

test('ENO-41, ENO-42, ENO-43: data in a SYN with ENO: the SYN alone is acknowledged, what comes later is delivered', async () => {
  const syn = '450323';
  for (const [eno, fastOpen, sysctl] of [
    [true, null, 3],
    [false, null, 3], // ENO is off
    [true, 16, 3], // the listener asks for Fast Open in vain
    [true, 0, FAST_OPEN_EVERYWHERE], // what our listeners do: "tcpcrypt listen" below
  ] as const) {
    const seen = await wire<SynData>('syn_data', eno, fastOpen, sysctl, syn);
    assert.equal(seen.acknowledged, 1);
    assert.equal(seen.received, 'afterwards');
    assert.equal(seen.eno, eno ? '45040123' : null);
    if (eno) assert.equal(seen.state.phase, ENCRYPTING);
    assert.equal(seen.refused, fastOpen ? EOPNOTSUPP : 0);
  }
  // The test can fail: without ENO in the SYN, such a host takes the data.
  const taken = await wire<SynData>('syn_data', false, 16, FAST_OPEN_EVERYWHERE, '');
  assert.deepEqual([taken.acknowledged, taken.received], [1 + 'in the SYN'.length, 'in the SYN']);
});

test('ENO-41, ENO-42: the library takes no data from a SYN, whatever the system says of TCP Fast Open', async () => {
  const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
  const listen = [process.execPath, main, 'listen', '127.0.0.1', '7000'];
  const seen = await wire<[number, string | null]>('syn_data_to', listen, 7000, FAST_OPEN_EVERYWHERE);
  assert.deepEqual(seen, [1, '45040123']);
});
