/** Rules of negotiation (RFC 8547 §4, RFC 8548 §3.2, §3.5), one by one. The vectors of negotiation.test.ts go wider. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRORS } from '#src/errors.js';
import {
  activeOffer,
  activeOpener,
  DEFAULT_TEPS,
  type Negotiated,
  negotiate,
  type Plain,
  passiveOffer,
  passiveOpener,
} from '#src/session/index.js';
import { enoOption, parseEnoContents, type TepId } from '#src/wire/index.js';
import { concat, fromHex, toHex } from '../support/vectors.js';

const HALF = '222222222222222222';
const proposal = { tep: 0x23, peerHalf: fromHex(HALF) } as const;

/** In short: the TEP byte and the kind, or why it is plain. */
function brief(outcome: Negotiated | Plain): string {
  if (outcome.result === 'encrypt') return `${outcome.kind} ${outcome.tepByte.toString(16)}`;
  assert.equal(ERRORS[outcome.reason].then, 'plain');
  return outcome.reason.replace('ERR_TCPCRYPT_ENO_', '');
}

/** As host A, that sent `own`, when a SYN-ACK with `peer` arrives. */
const asA = (own: string, peer: string, resumption: typeof proposal | undefined = undefined): string =>
  brief(activeOpener(fromHex(own), enoOption(fromHex(peer)), { resumption }));

/** As a listener, to a SYN with the ENO option `contents`: what the SYN-ACK says. */
function answer(contents: string, teps: readonly TepId[] = [0x23, 0x21]): string {
  const outcome = passiveOpener(enoOption(fromHex(contents)), { teps });
  return outcome.result === 'answer' ? toHex(outcome.contents) : brief(outcome);
}

test('ENO-8, ENO-10, ENO-17, ENO-19: an active offer has no global suboption: b=0, a=0; with a=1 it has exactly one', () => {
  assert.equal(toHex(activeOffer([0x23, 0x21])), '2123');
  assert.equal(toHex(activeOffer([0x23], { aware: true })), '0223');
});

test('ENO-8, ENO-16: a passive opener always sends one global suboption, with b=1', () => {
  assert.equal(toHex(passiveOffer([0x23, 0x21])), '012123');
  assert.equal(toHex(passiveOffer([0x23], true)), '0323');
  assert.equal(answer('23'), '0123');
  const aware = passiveOpener(enoOption(fromHex('0223')), { teps: [0x23], aware: true });
  assert.equal(aware.result === 'answer' && toHex(aware.contents), '0323');
});

test('ENO-20: the a bit is read from the peer’s option', () => {
  for (const [peer, aware] of [
    ['0123', false],
    ['0323', true],
  ] as const) {
    const outcome = negotiate(fromHex('23'), fromHex(peer));
    assert.equal(outcome.result === 'encrypt' && outcome.peerAware, aware);
  }
});

test('ENO-21, ENO-30: in mandatory application-aware mode, a peer with a=0 gets no encryption', () => {
  const mandatory = { mandatoryAware: true };
  assert.equal(brief(negotiate(fromHex('0223'), fromHex('0123'), mandatory)), 'UNAWARE');
  assert.equal(brief(negotiate(fromHex('0223'), fromHex('0323'), mandatory)), 'fresh 23');
  assert.equal(passiveOpener(enoOption(fromHex('23')), { teps: [0x23], ...mandatory }).result, 'plain');
});

test('ENO-9, ENO-22: the first global suboption counts, and none counts as 0x00', () => {
  assert.equal(asA('23', '0123'), 'fresh 23');
  assert.equal(asA('23', '23'), 'ROLE');
  assert.equal(asA('23', '0023'), 'ROLE');
  assert.equal(asA('23', '000123'), 'ROLE');
  assert.equal(asA('23', '230100'), 'fresh 23');
});

test('ENO-10: z1, z2 and z3 are ignored', () => {
  assert.equal(asA('23', '1d23'), 'fresh 23');
  assert.equal(answer('1c23'), '0123');
});

test('ENO-23, ENO-30: equal b bits: plain', () => {
  assert.equal(asA('23', '0023'), 'ROLE');
  assert.equal(asA('0123', '0123'), 'ROLE');
  assert.equal(answer('0123'), 'ROLE');
});

test('ENO-24: the last valid TEP in B’s option is negotiated, whatever the order of A’s', () => {
  assert.equal(asA('232124', '012123'), 'fresh 23');
  assert.equal(asA('232124', '012321'), 'fresh 21');
  assert.equal(asA('23', '012321'), 'fresh 23');
  assert.equal(brief(negotiate(fromHex('012421'), fromHex('2124'))), 'fresh 21', 'B is we');
});

test('ENO-25, TC-2: a listener answers solely the TEP that it chose, by its own preference, out of several', () => {
  assert.equal(answer('02212324', [0x23, 0x21]), '0123');
  assert.equal(answer('2324', [0x24, 0x23]), '0124');
  assert.equal(answer('7f2355', [0x24, 0x23]), '0123');
});

test('ENO-5, ENO-28: no option, two options, an ill-formed one: as if there were none', () => {
  const offer = fromHex('23');
  const good = enoOption(fromHex('0123'));
  assert.equal(brief(activeOpener(offer, new Uint8Array())), 'ABSENT');
  assert.equal(brief(activeOpener(offer, concat([good, good]))), 'REPEATED');
  assert.equal(asA('23', '019f23'), 'MALFORMED');
  assert.equal(answer('2380'), 'MALFORMED');
});

test('ENO-12, ENO-13, ENO-14: a length byte is followed by a TEP with v=1, within the option; the bounds are exact', () => {
  const wellFormed = (contents: string): boolean => parseEnoContents(fromHex(contents)).wellFormed;
  for (const next of ['00', '1f', '20', '7f', '80', '9f'])
    assert.equal(wellFormed(`80${next}aa`), false, next);
  for (const next of ['a0', 'ff']) assert.equal(wellFormed(`80${next}aa`), true, next);
  assert.equal(wellFormed('81a3aa'), false);
  assert.equal(wellFormed('81a3aabb'), true);
  assert.equal(wellFormed('23809f'), false);
});

test('ENO-15: the last suboption may have more than 32 bytes of data, without a length byte', () => {
  const parsed = parseEnoContents(fromHex(`a3${'55'.repeat(37)}`));
  assert.equal(parsed.wellFormed && parsed.suboptions[0]?.data.length, 37);
});

test('ENO-29, TC-3: no common TEP: plain', () => {
  assert.equal(asA('23', '0121'), 'NO_TEP');
  assert.equal(answer('24'), 'NO_TEP');
  assert.equal(answer('2020', [0x23]), 'NO_TEP');
});

test('ENO-15: a TEP that is named twice is not valid: tcpcrypt defines no meaning for it', () => {
  assert.equal(asA('23', '012323'), 'NO_TEP');
  assert.equal(answer('2323'), 'NO_TEP');
  assert.equal(answer('232321'), '0121');
});

test('ENO-37, ENO-38: a vacuous option means plain; none is ever sent', () => {
  assert.equal(asA('23', '01'), 'VACUOUS');
  assert.equal(asA('23', ''), 'ROLE');
  assert.equal(answer(''), 'VACUOUS');
  assert.equal(answer('02'), 'VACUOUS');
  assert.equal(passiveOpener(new Uint8Array(), { teps: [0x23] }).result, 'plain');
});

test('ENO-6, ENO-7: in the first ACK, presence counts: no contents, any contents, several options', () => {
  const outcome = passiveOpener(enoOption(fromHex('23')), { teps: [0x23] });
  assert.ok(outcome.result === 'answer');
  for (const options of ['4502', '45050102ff', '450380', '0145024502450380'])
    assert.equal(brief(outcome.firstAck(fromHex(options))), 'fresh 23', options);
  assert.equal(brief(outcome.firstAck(fromHex('0101080a0000000000000000'))), 'NO_ACK');
});

test('ENO-35: options both ways and a first ACK with ENO: both ends encrypt, with one transcript, A’s option first', () => {
  const offer = activeOffer([0x23]);
  const outcome = passiveOpener(enoOption(offer), { teps: [0x23] });
  assert.ok(outcome.result === 'answer');
  const passive = outcome.firstAck(enoOption(new Uint8Array()));
  const active = activeOpener(offer, enoOption(outcome.contents));
  assert.ok(active.result === 'encrypt' && passive.result === 'encrypt');
  assert.deepEqual([active.role, passive.role], ['A', 'B']);
  assert.equal(toHex(active.transcript), '45032345040123');
  assert.deepEqual(passive.transcript, active.transcript);
});

test('ENO-18: an active opener with b=1 is host B towards one without', () => {
  const outcome = negotiate(fromHex('0123'), fromHex('23'));
  assert.ok(outcome.result === 'encrypt');
  assert.equal(outcome.role, 'B');
  assert.equal(toHex(outcome.transcript), '45032345040123');
});

test('TC-1: by default a fresh exchange is offered: identifiers with v=0, no data', () => {
  const parsed = parseEnoContents(activeOffer(DEFAULT_TEPS));
  assert.ok(parsed.wellFormed && parsed.suboptions.length > 0);
  for (const { v, data } of parsed.suboptions) assert.deepEqual([v, data.length], [false, 0]);
});

test('TC-4: v bits are not compared: A’s v=1, answered by v=0, is a fresh exchange', () => {
  assert.equal(asA('a3111111111111111111', '0123', proposal), 'fresh 23');
  assert.equal(answer('a3111111111111111111'), '0123');
});

test('TC-18: resumption only if the peer’s half and the TEP are those of the kept session, in either role', () => {
  const own = '01a3111111111111111111';
  const asB = (peer: string) => brief(negotiate(fromHex(own), fromHex(peer), { resumption: proposal }));
  assert.equal(asB(`a3${HALF}aabb`), 'resume a3');
  assert.equal(asB('a3222222222222222223'), 'NO_TEP');
  assert.equal(asB(`a1${HALF}`), 'NO_TEP');
  assert.equal(asB('a3111111111111111111'), 'NO_TEP', 'one’s own half, reflected');
  assert.equal(asA('a3111111111111111111', `01a3${HALF}`, proposal), 'resume a3');
});

test('TC-20: a listener takes v=1 with less than 9 bytes as v=0', () => {
  for (let length = 0; length < 9; length++) assert.equal(answer(`a3${'11'.repeat(length)}`), '0123');
});

test('TC-21: an active opener ignores a half that does not fit; nothing else left: plain, not a fresh exchange', () => {
  const offer = '21a3111111111111111111';
  assert.equal(asA(offer, '01a3222222222222222223', proposal), 'NO_TEP');
  assert.equal(asA(offer, '01a32222', proposal), 'NO_TEP');
  assert.equal(asA('23', `01a3${HALF}`), 'NO_TEP', 'v=1 without a proposal');
  assert.equal(asA(offer, '0121a3222222222222222223', proposal), 'fresh 21');
});

test('TC-19, TC-24: beside a resumption, other TEPs may be offered, and chosen', () => {
  assert.equal(asA('21a3111111111111111111', '0121', proposal), 'fresh 21');
  assert.equal(answer('21a3111111111111111111', [0x21, 0x23]), '0121');
});
