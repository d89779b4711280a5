/** Both ends call connect() at once (RFC 8547 §4.3): host B is the one that says so beforehand. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import { isSynAck } from '#src/lab/pcap.js';
import { INDEX, needsRoot } from './kernel-part.js';

const PORT = 7200;

/** Opens from PORT to PORT, greets, and prints what came. */
const OPENER = `
import { createSocket } from 'node:dgram';
import { connect } from ${JSON.stringify(INDEX)};
const [host, role, name] = process.argv.slice(1);
// Fills the link to the router, so that the SYN has to wait, and meets the other one on the way.
const filler = createSocket('udp4');
for (let i = 0; i < 3; i++) await new Promise((sent) => filler.send(Buffer.alloc(1400), 9, host, sent));
const socket = connect({ host, port: ${PORT}, localPort: ${PORT}, role, resumption: false });
socket.end(name);
let heard = '';
let error;
try {
  for await (const chunk of socket) heard += chunk;
} catch ({ code }) {
  error = code;
}
filler.close();
const { encrypted, plainReason, tep } = socket;
console.log(JSON.stringify({
  heard, error, plainReason, tep, role: socket.role,
  id: encrypted && !error ? socket.sessionId.toString('hex') : undefined,
}));
`;

interface Seen {
  readonly heard: string;
  readonly error?: string;
  readonly plainReason?: string;
  readonly tep?: number;
  readonly role?: string;
  readonly id?: string;
}

describe('simultaneous open', { skip: needsRoot }, () => {
  let lab: Lab;
  let alice: Host;
  let bob: Host;
  let undo: (() => Promise<void>)[] = [];
  before(async () => {
    lab = await Lab.create({ name: 'simultaneous' });
    alice = lab.host('alice');
    bob = lab.host('bob');
    undo = [alice, bob].map((host) => loadKernelPart(host).undo);
    for (const host of [alice, bob]) {
      const slow = 'qdisc add dev eth0 root tbf rate 32kbit burst 1600 latency 20s';
      const { code, stderr } = await host.run('tc', slow.split(' '));
      assert.equal(code, 0, String(stderr));
    }
  });
  after(async () => {
    await lab.destroy();
    for (const step of undo) await step();
  });

  /** Both open at once. `lost`: alice's SYN never arrives, so that bob's finds her in SYN-SENT. */
  async function open(
    roles: readonly [string, string],
    { lost = false } = {},
  ): Promise<{ seen: Seen[]; synAcks: string[] }> {
    const stopDropping = lost ? lab.router.middlebox({ sender: alice, dropSynWithOption: true }) : undefined;
    const capture = await Capture.start(lab, bob);
    const opener = (from: Host, to: Host, role: string) =>
      from.run(process.execPath, ['--input-type=module', '-e', OPENER, to.address4, role, from.name], {
        timeoutMs: 20_000,
      });
    const first = opener(alice, bob, roles[0]);
    if (lost)
      for (let waiting = ''; !waiting.includes(`:${PORT}`); await sleep(20))
        waiting = String((await alice.run('ss', ['-Htn', 'state', 'syn-sent'])).stdout);
    const results = await Promise.all([first, opener(bob, alice, roles[1])]);
    stopDropping?.();
    const segments = await capture.stop();
    return {
      seen: results.map(({ stdout, stderr }) => {
        assert.notEqual(String(stdout), '', String(stderr));
        return JSON.parse(String(stdout)) as Seen;
      }),
      // Some are sent again: the links are slow.
      synAcks: [...new Set(segments.filter(isSynAck).map(({ source }) => source))],
    };
  }

  for (const roles of [
    ['A', 'B'],
    ['B', 'A'],
  ] as const)
    test(`ENO-18, ENO-24: roles ${roles}: encrypted, and B's preference decides`, {
      timeout: 40_000,
    }, async () => {
      const { seen, synAcks } = await open(roles);
      const [ours, theirs] = seen;
      assert.deepEqual(synAcks.sort(), [alice.address4, bob.address4], 'nobody listened');
      assert.deepEqual(
        seen.map(({ role }) => role),
        roles,
      );
      assert.deepEqual([ours?.heard, theirs?.heard], ['bob', 'alice']);
      assert.deepEqual([ours?.tep, theirs?.tep], [0x23, 0x23]);
      assert.equal(ours?.id, theirs?.id);
      assert.equal(ours?.id?.length, 66);
    });

  test('ENO-23: both take the same role: plain, and both know why', { timeout: 40_000 }, async () => {
    const { seen, synAcks } = await open(['A', 'A']);
    assert.equal(synAcks.length, 2);
    assert.deepEqual(
      seen.map(({ heard, plainReason }) => [heard, plainReason]),
      [
        ['bob', 'ERR_TCPCRYPT_ENO_ROLE'],
        ['alice', 'ERR_TCPCRYPT_ENO_ROLE'],
      ],
    );
  });

  test('ENO-36: the first SYN lost: one end cannot encrypt, the other must: both are reset', {
    timeout: 40_000,
  }, async () => {
    const { seen, synAcks } = await open(['A', 'B'], { lost: true });
    assert.deepEqual(synAcks, [alice.address4]);
    assert.equal(seen[0]?.error, 'ERR_TCPCRYPT_ENO_FORGOTTEN');
    assert.equal(seen[1]?.error, 'ECONNRESET');
    assert.deepEqual([seen[0]?.heard, seen[1]?.heard], ['', '']);
  });
});
