import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRORS, type ErrorCode } from '#src/errors.js';
import {
  activeOpener,
  type Negotiated,
  negotiate,
  negotiatedFromTranscript,
  type Plain,
  passiveOpener,
} from '#src/session/index.js';
import { enoOption, type TepId } from '#src/wire/index.js';
import { fromHex, toHex, vectors } from '../support/vectors.js';

interface Common {
  readonly name: string;
  readonly received_options: string;
  readonly mandatory_aware: boolean;
}
type Opener =
  | {
      readonly opener: 'active';
      readonly offer_contents: string;
      readonly third_ack_has_eno: boolean;
      readonly proposed_tep?: TepId;
      readonly expected_peer_half?: string;
    }
  | {
      readonly opener: 'passive';
      readonly first_ack_options: string;
      readonly synack_option: string | null;
      readonly teps_most_preferred_first: readonly TepId[];
    };
type Result =
  | {
      readonly result: 'encrypt';
      readonly role: 'A' | 'B';
      readonly tep: number;
      readonly tep_byte: number;
      readonly kind: 'fresh' | 'resume';
      readonly peer_aware: boolean;
      readonly transcript: string;
    }
  | { readonly result: 'plain'; readonly reason: string };
type Row = Common & Opener & Result;

const REASONS: { readonly [hint: string]: ErrorCode } = {
  'no-eno': 'ERR_TCPCRYPT_ENO_ABSENT',
  'multiple-eno': 'ERR_TCPCRYPT_ENO_REPEATED',
  'ill-formed': 'ERR_TCPCRYPT_ENO_MALFORMED',
  'same-b': 'ERR_TCPCRYPT_ENO_ROLE',
  vacuous: 'ERR_TCPCRYPT_ENO_VACUOUS',
  'no-valid-tep': 'ERR_TCPCRYPT_ENO_NO_TEP',
  'peer-not-aware': 'ERR_TCPCRYPT_ENO_UNAWARE',
  'first-ack-without-eno': 'ERR_TCPCRYPT_ENO_NO_ACK',
};

function run(row: Row): Negotiated | Plain {
  const received = fromHex(row.received_options);
  const mandatoryAware = row.mandatory_aware;
  if (row.opener === 'active') {
    const { proposed_tep: tep, expected_peer_half: half } = row;
    const resumption = tep === undefined || half === undefined ? undefined : { tep, peerHalf: fromHex(half) };
    const outcome = activeOpener(fromHex(row.offer_contents), received, { mandatoryAware, resumption });
    assert.equal(outcome.result === 'encrypt', row.third_ack_has_eno);
    return outcome;
  }
  const outcome = passiveOpener(received, { teps: row.teps_most_preferred_first, mandatoryAware });
  const answer = outcome.result === 'answer' ? toHex(enoOption(outcome.contents)) : null;
  assert.equal(answer, row.synack_option);
  return outcome.result === 'answer' ? outcome.firstAck(fromHex(row.first_ack_options)) : outcome;
}

test('RFC 8547 §4: eno-negotiation.json', async (t) => {
  for (const row of vectors<Row>('eno-negotiation')) {
    await t.test(row.name, () => {
      const outcome = run(row);
      if (row.result === 'plain') {
        const reason = REASONS[row.reason.split(':')[0] ?? ''];
        assert.deepEqual(outcome, { result: 'plain', reason });
        assert.equal(reason && ERRORS[reason].then, 'plain');
        return;
      }
      assert.equal(outcome.result, 'encrypt');
      if (outcome.result !== 'encrypt') return;
      assert.deepEqual(
        [
          outcome.role,
          outcome.tep,
          outcome.tepByte,
          outcome.kind,
          outcome.peerAware,
          toHex(outcome.transcript),
        ],
        [row.role, row.tep, row.tep_byte, row.kind, row.peer_aware, row.transcript],
      );
      // The kernel's view: the transcript and our role say the same.
      const resumption =
        row.opener === 'active' && row.proposed_tep !== undefined
          ? { tep: row.proposed_tep, peerHalf: fromHex(row.expected_peer_half ?? '') }
          : undefined;
      assert.deepEqual(negotiatedFromTranscript(outcome.transcript, outcome.role, { resumption }), outcome);
    });
  }
});

test('negotiatedFromTranscript refuses what is no transcript, and a role that the b bits contradict', () => {
  const reason = (transcript: string, role: 'A' | 'B' = 'A') => {
    const outcome = negotiatedFromTranscript(fromHex(transcript), role);
    return outcome.result === 'plain' ? outcome.reason : 'encrypt';
  };
  assert.equal(reason('45032345040123'), 'encrypt');
  assert.equal(reason('45040123450323'), 'ERR_TCPCRYPT_ENO_ROLE');
  assert.equal(reason('450323'), 'ERR_TCPCRYPT_ENO_ABSENT');
  assert.equal(reason(''), 'ERR_TCPCRYPT_ENO_ABSENT');
  assert.equal(reason('4503234504012345'), 'ERR_TCPCRYPT_ENO_ABSENT');
  assert.equal(reason('4503230145040123'), 'ERR_TCPCRYPT_ENO_MALFORMED');
  assert.equal(reason('45032345040123450323'), 'ERR_TCPCRYPT_ENO_MALFORMED');
});

test('more contents than an option can hold: plain, not an error', () => {
  const contents = Uint8Array.from({ length: 39 }, (_, i) => (i === 0 ? 1 : 0x23));
  assert.deepEqual(negotiate(Uint8Array.of(0x23), contents), {
    result: 'plain',
    reason: 'ERR_TCPCRYPT_ENO_MALFORMED',
  });
});

test('TC-30: a simultaneous open with fitting halves resumes; B with v=1 and A with v=0 does not match', () => {
  const own = fromHex('01a3111111111111111111aabb');
  const peer = fromHex('a3222222222222222222cc');
  const resumption = { tep: 0x23, peerHalf: fromHex('222222222222222222') } as const;
  const outcome = negotiate(own, peer, { resumption });
  assert.ok(outcome.result === 'encrypt' && outcome.kind === 'resume');
  assert.equal(outcome.role, 'B');
  assert.equal(outcome.tepByte, 0xa3);
  assert.deepEqual([toHex(outcome.ownNonce), toHex(outcome.peerNonce)], ['aabb', 'cc']);
  assert.deepEqual(negotiate(own, fromHex('23'), { resumption }), {
    result: 'plain',
    reason: 'ERR_TCPCRYPT_ENO_NO_TEP',
  });
});

test('TC-15: a resumption nonce of more than 8 bytes cannot resume', () => {
  const half = '222222222222222222';
  const resumption = { tep: 0x23, peerHalf: fromHex(half) } as const;
  const own = fromHex('a3111111111111111111');
  const outcome = (nonce: string) => negotiate(own, fromHex(`01a3${half}${nonce}`), { resumption }).result;
  assert.equal(outcome('0011223344556677'), 'encrypt');
  assert.equal(outcome('001122334455667788'), 'plain');
});
