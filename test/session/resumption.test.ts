import assert from 'node:assert/strict';
import { test } from 'node:test';
import { importKeyPair } from '#src/crypto/index.js';
import {
  negotiate,
  negotiatedFromTranscript,
  nextResumable,
  type ResumableSession,
  type Role,
  resumptionHalves,
  resumptionOffer,
  resumptionProposal,
  Session,
} from '#src/session/index.js';
import { encodeEnoContents, parseEnoContents, TEPS, type TepId } from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { concat, fromHex, toHex } from '../support/vectors.js';
import { fixedSession, negotiated, Pair } from './pair.js';
import {
  type FrameVector,
  type ResumedVector,
  type SessionVector,
  sessionVectors,
} from './session-vectors.js';

function expectFrames(session: Session, frames: readonly FrameVector[]): void {
  for (const frame of frames) session.handleData(fromHex(frame.frame));
  const received: Uint8Array[] = [];
  for (let event = session.pollEvent(); event !== undefined; event = session.pollEvent())
    if (event.type === 'data') received.push(event.data);
  assert.equal(toHex(concat(received)), frames.map((frame) => frame.data).join(''));
}

test('sessions.json: fresh connections through Session', async (t) => {
  let run = 0;
  let trailing = 0;
  for (const row of sessionVectors()) {
    if (row.a.ignored !== '' || row.b.ignored !== '') {
      // Both ends of these rows send ignored bytes, which a Session never does (TC-7): its keys are others then.
      // Their keys and frames are checked in key-schedule.test.ts and frame-vectors.test.ts.
      trailing += 1;
      continue;
    }
    run += 1;
    await t.test(row.name, () => {
      const end = (role: Role, { private: key, nonce }: SessionVector['b']): Session => {
        const outcome = negotiatedFromTranscript(fromHex(row.transcript), role);
        assert.ok(outcome.result === 'encrypt');
        return new Session({
          negotiated: outcome,
          ciphers: role === 'A' ? row.a.ciphers : [row.aead],
          keyPair: () => importKeyPair(TEPS[row.tep].curve, fromHex(key)),
          random: () => fromHex(nonce),
        });
      };
      const a = end('A', row.a);
      const b = end('B', row.b);
      assert.equal(toHex(concat(a.pollTransmit())), row.init1);
      b.handleData(fromHex(row.init1));
      assert.equal(toHex(concat(b.pollTransmit())), row.init2);
      a.handleData(fromHex(row.init2));
      for (const session of [a, b]) {
        assert.equal(session.cipher, row.aead);
        assert.equal(toHex(session.sessionId ?? new Uint8Array()), row.fresh.session_id);
      }
      const [firstAb] = row.fresh.frames_ab;
      a.write(fromHex(firstAb?.data ?? ''));
      assert.equal(toHex(concat(a.pollTransmit())), firstAb?.frame);
      expectFrames(a, row.fresh.frames_ba);
      expectFrames(b, row.fresh.frames_ab);
    });
  }
  assert.deepEqual([run, trailing], [12, 4]);
});

function resumed(row: SessionVector, connection: ResumedVector, originalRole: Role): Session {
  const { index } = connection;
  const kept: ResumableSession = {
    tep: row.tep,
    cipher: row.aead,
    originalRole,
    index,
    secret: fromHex(row.ss[index] ?? ''),
  };
  const { own } = resumptionHalves(kept);
  const active = connection.active_opener_original_role === originalRole;
  const [ownOption, peerOption] = active
    ? [connection.syn_option, connection.synack_option]
    : [connection.synack_option, connection.syn_option];
  assert.ok(ownOption.includes(toHex(own)));
  const outcome = negotiate(fromHex(ownOption).subarray(2), fromHex(peerOption).subarray(2), {
    resumption: resumptionProposal(kept),
  });
  assert.ok(outcome.result === 'encrypt' && outcome.kind === 'resume');
  assert.equal(outcome.role, active ? 'A' : 'B');
  assert.equal(outcome.tepByte, connection.tep_byte);
  return new Session({ negotiated: outcome, resumption: kept });
}

test('ENO-56, TC-1, TC-17, TC-22, TC-28: sessions.json: resumed connections through Session, byte for byte', async (t) => {
  let emptyFrames = 0;
  for (const row of sessionVectors())
    for (const connection of row.resumed)
      await t.test(`${row.name}, index ${connection.index}`, () => {
        const a = resumed(row, connection, 'A');
        const b = resumed(row, connection, 'B');
        for (const session of [a, b]) assert.deepEqual(session.pollEvent(), { type: 'secure' });
        for (const [session, frames] of [
          [a, connection.frames_ab],
          [b, connection.frames_ba],
        ] as const) {
          assert.equal(session.resumed, true);
          assert.equal(toHex(session.sessionId ?? new Uint8Array()), connection.session_id);
          const [first, last] = frames;
          assert.ok(first && last && frames.length === 2);
          // An empty frame that neither rekeys nor ends: nothing makes a Session send one. Such frames are sealed
          // and opened in frame-vectors.test.ts, and received below.
          if (first.data === '' && !first.rekey) {
            session.end();
            session.pollTransmit();
            emptyFrames += 1;
            continue;
          }
          session.write(fromHex(first.data));
          assert.equal(toHex(concat(session.pollTransmit())), first.frame);
          if (last.rekey) session.rekey();
          session.end(fromHex(last.data));
          assert.equal(toHex(concat(session.pollTransmit())), last.frame);
        }
        expectFrames(a, connection.frames_ba);
        expectFrames(b, connection.frames_ab);
        assert.deepEqual([a.state, b.state], ['closed', 'closed']);
      });
  assert.equal(emptyFrames, 4);
});

/** Both ends' next session of a chain, after a fresh connection. */
function chain(): { a: ResumableSession; b: ResumableSession; sessionId: string } {
  const options = { keepResumable: true };
  const pair = new Pair(fixedSession('A', options), fixedSession('B', options)).run();
  const a = pair.a.session.takeResumable();
  const b = pair.b.session.takeResumable();
  assert.ok(a && b);
  assert.equal(pair.a.session.takeResumable(), undefined, 'once');
  return { a, b, sessionId: toHex(pair.a.session.sessionId ?? new Uint8Array()) };
}

/** A connection that resumes, opened by the end that was B. */
function reconnect(opener: ResumableSession, other: ResumableSession): Pair {
  const suboption = (kept: ResumableSession, nonce: string) => ({
    tep: kept.tep,
    v: true,
    data: concat([resumptionHalves(kept).own, fromHex(nonce)]),
  });
  const syn = encodeEnoContents({ global: 0, suboptions: [suboption(opener, '0011223344556677')] });
  const synAck = encodeEnoContents({ global: 1, suboptions: [suboption(other, 'aabbcc')] });
  const session = (own: Uint8Array, peer: Uint8Array, kept: ResumableSession) => {
    const outcome = negotiate(own, peer, { resumption: resumptionProposal(kept) });
    assert.ok(outcome.result === 'encrypt');
    return new Session({ negotiated: outcome, resumption: kept, keepResumable: true });
  };
  return new Pair(session(syn, synAck, opener), session(synAck, syn, other));
}

test('TC-23: a SYN has one resumption suboption at most, and names no TEP twice', () => {
  const nonce = new Uint8Array(8).fill(7);
  for (const tep of Object.keys(TEPS).map(Number) as TepId[]) {
    const session = { ...chain().a, tep };
    for (const aware of [false, true]) {
      for (const teps of [[tep], [0x23], [tep, 0x23], [0x23, 0x21, 0x22, 0x24]] satisfies TepId[][]) {
        const offer = parseEnoContents(resumptionOffer(session, nonce, teps, { aware }).contents);
        assert.ok('suboptions' in offer);
        assert.deepEqual(
          offer.suboptions.filter(({ v }) => v).map((suboption) => suboption.tep),
          [tep],
        );
        const named = offer.suboptions.map((suboption) => suboption.tep);
        assert.equal(new Set(named).size, named.length);
      }
    }
  }
});

test('TC-25: a kept secret resumes, and gives the next one; whoever was B may open', () => {
  let { a, b, sessionId } = chain();
  for (let index = 1; index < 4; index++) {
    assert.deepEqual([a.index, b.index], [index, index]);
    const pair = index % 2 === 0 ? reconnect(a, b) : reconnect(b, a);
    pair.a.session.end(Uint8Array.of(1));
    pair.b.session.end(Uint8Array.of(2));
    pair.run();
    assert.deepEqual([pair.a.session.state, pair.b.session.state], ['closed', 'closed']);
    const id = toHex(pair.a.session.sessionId ?? new Uint8Array());
    assert.equal(toHex(pair.b.session.sessionId ?? new Uint8Array()), id);
    assert.notEqual(id, sessionId);
    assert.ok(id.startsWith('a3'));
    sessionId = id;
    const next = [pair.a.session.takeResumable(), pair.b.session.takeResumable()];
    const nextA = next.find((kept) => kept?.originalRole === 'A');
    const nextB = next.find((kept) => kept?.originalRole === 'B');
    assert.ok(nextA && nextB);
    a = nextA;
    b = nextB;
  }
});

test('TC-26: after a failed attempt, both ends can move on to the next index; the old secret is erased', () => {
  const { a, b } = chain();
  const [nextA, nextB] = [nextResumable(a), nextResumable(b)];
  assert.ok(a.secret.every((byte) => byte === 0));
  const pair = reconnect(nextA, nextB);
  pair.a.session.end(Uint8Array.of(1));
  pair.run();
  assert.deepEqual(pair.b.events, ['secure', 'end']);
});

test('TC-29: nothing is kept unless asked for, and destroy() erases what is', () => {
  const plain = new Pair(fixedSession('A'), fixedSession('B')).run();
  assert.equal(plain.a.session.takeResumable(), undefined);
  const kept = new Pair(fixedSession('A', { keepResumable: true }), fixedSession('B')).run();
  kept.a.session.destroy();
  assert.equal(kept.a.session.takeResumable(), undefined);
});

test('a resumption needs what was kept, of the same TEP', () => {
  const { a, b } = chain();
  const resumption = reconnect(a, b).a.session;
  assert.equal(resumption.resumed, true);
  const outcome = {
    ...negotiated('A'),
    kind: 'resume',
    ownNonce: new Uint8Array(),
    peerNonce: new Uint8Array(),
  } as const;
  assert.throws(() => new Session({ negotiated: outcome }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  const other = { ...a, tep: 0x24 } as const;
  assert.throws(
    () => new Session({ negotiated: outcome, resumption: other }),
    withCode('ERR_TCPCRYPT_ARGUMENT'),
  );
});
