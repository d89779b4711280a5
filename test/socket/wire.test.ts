/** Connections between two hosts as a router sees them, and routers that tamper with the ENO option (RFC 8547 §4.6). */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import type { Misbehaviour } from '#src/lab/middlebox.js';
import { type CapturedSegment, findOption, isSyn, isSynAck } from '#src/lab/pcap.js';
import { needsRoot, TCPCRYPT } from './kernel-part.js';

const ENO = 69;
const PORT = 7000;
const SECRET = 'MARKER that nobody on the way may read';

type Line = Record<string, string | number | boolean | undefined>;

describe('on the wire', { skip: needsRoot }, () => {
  let lab: Lab;
  let alice: Host;
  let bob: Host;
  let undo: (() => Promise<void>)[] = [];
  let echo: ChildProcess;
  before(async () => {
    lab = await Lab.create();
    alice = lab.host('alice');
    bob = lab.host('bob');
    undo = [alice, bob].map((host) => loadKernelPart(host).undo);
    echo = bob.spawn(process.execPath, [TCPCRYPT, 'listen', `${PORT}`, '--echo', '--keep-open', '--json']);
    echo.stdout?.resume();
    await bob.waitForListener(PORT);
  });
  after(async () => {
    await lab.destroy();
    for (const step of undo) await step();
  });

  /** One `tcpcrypt connect` from alice to bob: what it said, what bob said of it, and the segments. */
  async function exchange(options: { misbehaviour?: Misbehaviour; address?: string; flags?: string[] } = {}) {
    const { misbehaviour, address = bob.address4, flags = [] } = options;
    let said = '';
    const collect = (data: Buffer) => {
      said += data;
    };
    echo.stderr?.on('data', collect);
    const undoMisbehaviour = misbehaviour && lab.router.middlebox(misbehaviour);
    const capture = await Capture.start(lab, bob);
    const args = [TCPCRYPT, 'connect', address, `${PORT}`, '--json', ...flags];
    const { code, stdout, stderr } = await alice.run(process.execPath, args, {
      input: SECRET,
      timeoutMs: 20_000,
    });
    const wanted = flags.includes('required') ? 'how' : 'how":"end';
    while (code === 0 && !said.includes(wanted)) await once(echo.stderr ?? echo, 'data');
    const segments = await capture.stop();
    undoMisbehaviour?.();
    echo.stderr?.off('data', collect);
    return {
      code,
      stdout: stdout.toString(),
      client: linesOf(stderr),
      server: linesOf(said),
      segments,
      readable: segments.some(({ payload }) => Buffer.from(payload).includes(SECRET)),
    };
  }

  for (const family of ['address4', 'address6'] as const) {
    test(`ENO in SYN, SYN-ACK and the first ACK, not later: ${family}`, { timeout: 30_000 }, async () => {
      const { code, stdout, client, server, segments, readable } = await exchange({ address: bob[family] });
      assert.equal(code, 0);
      assert.equal(stdout, SECRET);
      assert.equal(client[0]?.sessionId, server[0]?.sessionId);
      assert.equal(readable, false);

      assert.deepEqual(segments.filter(isSyn).map(enoOf), ['212423']);
      assert.deepEqual(segments.filter(isSynAck).map(enoOf), ['0123']);
      const fromAlice = segments.filter(
        ({ source, flags }) => source === alice[family] && !flags.includes('S'),
      );
      assert.equal(enoOf(fromAlice[0]), '', 'the first ACK has the option, without contents');
      const answered = segments.findIndex(
        (segment) => segment.source === bob[family] && segment.payload.length > 0,
      );
      const later = segments.slice(answered).filter((segment) => segment.payload.length > 0);
      assert.ok(later.length > 2);
      assert.deepEqual(new Set(later.map(enoOf)), new Set([undefined]));
      assert.equal(
        segments.some(({ flags }) => flags.includes('R')),
        false,
      );
    });
  }

  const FALLBACKS: Record<string, { misbehaviour: Misbehaviour; client: string; server: string }> = {
    'stripped from SYN': {
      misbehaviour: { stripFrom: 'syn' },
      client: 'ERR_TCPCRYPT_ENO_ABSENT',
      server: 'ERR_TCPCRYPT_ENO_ABSENT',
    },
    'stripped from SYN-ACK': {
      misbehaviour: { stripFrom: 'syn-ack' },
      client: 'ERR_TCPCRYPT_ENO_ABSENT',
      server: 'ERR_TCPCRYPT_ENO_NO_ACK',
    },
    'SYN with the option dropped: the third one goes without': {
      misbehaviour: { dropSynWithOption: true },
      client: 'ERR_TCPCRYPT_ENO_GIVEN_UP',
      server: 'ERR_TCPCRYPT_ENO_ABSENT',
    },
    'unknown TEPs only': {
      misbehaviour: {
        replace: { in: 'syn', bytes: [ENO, 5, 0x21, 0x24, 0x23], by: [ENO, 5, 0x7d, 0x7e, 0x7f] },
      },
      client: 'ERR_TCPCRYPT_ENO_ABSENT',
      server: 'ERR_TCPCRYPT_ENO_NO_TEP',
    },
  };
  for (const [name, { misbehaviour, client, server }] of Object.entries(FALLBACKS)) {
    test(`plain TCP: ${name}`, { timeout: 30_000 }, async () => {
      const seen = await exchange({ misbehaviour });
      assert.equal(seen.code, 0);
      assert.equal(seen.stdout, SECRET);
      assert.equal(seen.readable, true);
      assert.deepEqual(outcome(seen.client), ['plain', client, 'end']);
      assert.deepEqual(outcome(seen.server), ['plain', server, 'end']);
      assert.equal(
        seen.segments.some((segment) => !isSyn(segment) && !isSynAck(segment) && enoOf(segment) === ''),
        false,
      );
    });
  }

  test('required: refused, and nothing of the data is on the wire', { timeout: 30_000 }, async () => {
    const seen = await exchange({ misbehaviour: { stripFrom: 'syn-ack' }, flags: ['--mode', 'required'] });
    assert.equal(seen.code, 1);
    assert.equal(seen.stdout, '');
    assert.equal(seen.client.at(-1)?.how, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
    assert.equal(
      seen.segments.some(({ source, payload }) => source === alice.address4 && payload.length > 0),
      false,
    );
    assert.ok(seen.segments.some(({ source, flags }) => source === alice.address4 && flags.includes('R')));
  });

  test('the ACK stripped: encrypted or reset, never plain by accident', { timeout: 30_000 }, async () => {
    const seen = await exchange({ misbehaviour: { stripFrom: 'ack', sender: alice } });
    assert.equal(seen.readable, false);
    assert.notEqual(seen.code, 0);
    assert.equal(seen.stdout, '');
  });
});

const linesOf = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event !== 'listening');

const outcome = (lines: readonly Line[]) => [lines[0]?.event, lines[0]?.plainReason, lines[1]?.how];

const enoOf = (segment: CapturedSegment | undefined): string | undefined => {
  const contents = segment && findOption(segment.options, ENO);
  return contents && Buffer.from(contents).toString('hex');
};
