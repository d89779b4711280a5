/** The parsers of src/wire, and what src/session makes of options. */
import assert from 'node:assert/strict';
import { ERRORS, TcpcryptError } from '#src/errors.js';
import { activeOpener, negotiate, negotiatedFromTranscript, passiveOpener } from '#src/session/index.js';
import {
  type Decoded,
  decodeInit1,
  decodeInit2,
  decodePlaintextHead,
  type EnoContents,
  encodeEnoContents,
  encodeInit1,
  encodeInit2,
  enoOption,
  findEnoOptions,
  MAX_ENO_CONTENTS,
  parseEnoContents,
  type TepId,
} from '#src/wire/index.js';
import type { Random } from '../../support/random.js';
import type { Target } from '../target.js';

const concat = (...pieces: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(pieces));
const TEPS: readonly [TepId, ...TepId[]] = [0x23, 0x21, 0x22, 0x24];

/** Contents by the grammar of RFC 8547 §4.1, with an error now and then. */
export function enoContents(random: Random): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let left = random.below(5); left > 0; left--) {
    const tep = random.pick([0x23, 0x21, 0x24, 0x20, 0x7f, random.between(0x20, 0x7f)]);
    const length = random.pick([9, 17, 1, random.between(1, 32)]);
    pieces.push(
      random.pick([
        () => Uint8Array.of(random.below(0x20)),
        () => Uint8Array.of(tep),
        () => concat(Uint8Array.of(0x80 | (length - 1), tep | 0x80), random.bytes(length)),
        () =>
          concat(
            Uint8Array.of(0x80 | (length - 1), random.below(256)),
            random.bytes(random.below(length + 1)),
          ),
        () => concat(Uint8Array.of(tep | 0x80), random.bytes(random.below(20))),
      ])(),
    );
  }
  return concat(...pieces).slice(0, random.chance(90) ? MAX_ENO_CONTENTS : 80);
}

/** An option area: other options, padding, ENO options, broken lengths. */
function optionArea(random: Random): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let left = random.below(6); left > 0; left--)
    pieces.push(
      random.pick([
        () => enoOption(enoContents(random).slice(0, MAX_ENO_CONTENTS)),
        () => Uint8Array.of(1),
        () => Uint8Array.of(2, 4, 5, 0xb4),
        () => concat(Uint8Array.of(8, 10), random.bytes(8)),
        () => Uint8Array.of(random.below(256), random.below(12)),
        () => Uint8Array.of(0),
      ])(),
    );
  return concat(...pieces);
}

const eno: Target = {
  name: 'eno',
  about: 'the contents of a SYN-form ENO option',
  generate: enoContents,
  run(whole) {
    const input = whole.subarray(0, 200);
    const parsed = parseEnoContents(input);
    const twin = readableTwin(input);
    assert.equal(parsed.wellFormed, twin !== undefined);
    if (parsed.wellFormed)
      assert.deepEqual(
        parsed.suboptions.map(({ tep, v, data }) => `${tep} ${v} ${Buffer.from(data).toString('hex')}`),
        twin,
      );
    const outcomes = [Uint8Array.of(0x21, 0x23), Uint8Array.of(0x01, 0x23)].map((own) =>
      negotiate(own, input),
    );
    for (const outcome of outcomes)
      if (outcome.result === 'plain') assert.equal(ERRORS[outcome.reason].then, 'plain');
      else assert.ok(outcome.transcript.length <= 2 * (2 + MAX_ENO_CONTENTS));
    if (!parsed.wellFormed) {
      assert.ok(parsed.at < input.length);
      assert.ok(outcomes.every((outcome) => outcome.result === 'plain'));
      return parsed.reason;
    }
    assert.ok(parsed.suboptions.every(({ tep }) => tep >= 0x20 && tep <= 0x7f));
    if (input.length <= MAX_ENO_CONTENTS) checkEncoding(parsed);
    return `${parsed.globalExplicit} ${Math.min(4, parsed.suboptions.length)} ${outcomes.map(({ result }) => result).join()}`;
  },
};

/** The suboptions by the table of RFC 8547 §4.1, slowly; undefined when ill-formed. */
function readableTwin(contents: Uint8Array): string[] | undefined {
  const [first, ...rest] = Array.from(contents);
  if (first === undefined) return [];
  const hex = (bytes: readonly number[]): string => Buffer.from(bytes).toString('hex');
  const then = (item: string, left: readonly number[]): string[] | undefined => {
    const more = readableTwin(Uint8Array.from(left));
    return more && [item, ...more];
  };
  if (first < 0x20) return readableTwin(Uint8Array.from(rest));
  if (first < 0x80) return then(`${first} false `, rest);
  if (first >= 0xa0) return [`${first - 0x80} true ${hex(rest)}`];
  const [tep, ...data] = rest;
  const length = first - 0x80 + 1;
  if (tep === undefined || tep < 0xa0 || data.length < length) return undefined;
  return then(`${tep - 0x80} true ${hex(data.slice(0, length))}`, data.slice(length));
}

/** What can be read can be written, and means the same. */
function checkEncoding(parsed: EnoContents): void {
  let bytes: Uint8Array;
  try {
    bytes = encodeEnoContents(parsed);
  } catch (error) {
    // A global suboption of 0 that is implied makes room, a length byte that is added takes it.
    assert.ok(error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_ARGUMENT');
    return;
  }
  const again = parseEnoContents(bytes);
  assert.ok(again.wellFormed);
  assert.equal(again.global, parsed.global);
  const plain = ({ tep, v, data }: EnoContents['suboptions'][number]) => [tep, v, Buffer.from(data)];
  assert.deepEqual(again.suboptions.map(plain), parsed.suboptions.map(plain));
}

const tcpOptions: Target = {
  name: 'tcp-options',
  about: 'the option area of a SYN, a SYN-ACK or a first ACK; or a transcript',
  generate: optionArea,
  run(input) {
    const found = findEnoOptions(input);
    assert.ok(found.reduce((sum, contents) => sum + 2 + contents.length, 0) <= input.length);
    const active = activeOpener(Uint8Array.of(0x21, 0x23), input);
    const passive = passiveOpener(input, { teps: TEPS });
    if (found.length !== 1) assert.deepEqual([active.result, passive.result], ['plain', 'plain']);
    let answer = passive.result;
    if (passive.result === 'answer') {
      const parsed = parseEnoContents(passive.contents);
      assert.ok(parsed.wellFormed && (parsed.global & 1) === 1 && parsed.suboptions.length === 1);
      const last = passive.firstAck(input);
      assert.equal(last.result, 'encrypt');
      assert.equal(passive.firstAck(new Uint8Array()).result, 'plain');
      answer = 'answer';
    }
    const fromTranscript = negotiatedFromTranscript(input, 'A');
    if (fromTranscript.result === 'encrypt') assert.equal(found.length, 2);
    return `${Math.min(3, found.length)} ${active.result} ${answer} ${fromTranscript.result}`;
  },
};

function initMessage(random: Random, which: 1 | 2): Uint8Array {
  const index = random.below(TEPS.length);
  const tep = TEPS[index] ?? 0x23;
  const keyLength = { 33: 33, 34: 67, 35: 32, 36: 56 }[tep];
  const nonce = random.bytes(32);
  const publicKey = random.bytes(keyLength);
  const message =
    which === 1
      ? encodeInit1(tep, {
          ciphers: Array.from({ length: random.below(6) }, () => random.pick([1, 2, 16, 0xffff])),
          nonce,
          publicKey,
        })
      : encodeInit2(tep, { cipher: random.pick([1, 2, 16, 0x1234]), nonce, publicKey });
  const cut = random.chance(90) ? 0 : 1 + random.below(keyLength); // off the key
  const longer = concat(message.slice(0, message.length - cut), random.bytes(random.below(20)));
  if (cut > 0) longer[7] = message.length - cut;
  if (random.chance(30)) longer[7] = random.pick([longer.length, 0, 8, random.below(256)]);
  return concat(Uint8Array.of(index), longer);
}

/** First byte: which TEP. A prefix never says anything that the whole does not confirm. */
function runInit(input: Uint8Array, decode: (tep: TepId, bytes: Uint8Array) => Decoded<unknown>): string {
  const tep = TEPS[(input[0] ?? 0) % TEPS.length] ?? 0x23;
  const bytes = input.subarray(1);
  const whole = attempt(() => decode(tep, bytes));
  for (const length of [0, 3, 7, 8, 9, bytes.length >> 1, bytes.length - 1]) {
    if (length < 0 || length >= bytes.length) continue;
    const part = attempt(() => decode(tep, bytes.subarray(0, length)));
    if (typeof part === 'string') {
      assert.equal(part, whole, `${length} bytes`);
      continue;
    }
    if (part.complete) {
      assert.deepEqual(part, whole);
      continue;
    }
    if (part.need !== undefined) assert.ok(part.need > length && part.need <= 65_536);
    if (length >= 8) assert.notEqual(part.need, undefined);
  }
  if (typeof whole === 'string') return whole;
  if (whole.complete) assert.ok(whole.length <= bytes.length);
  return whole.complete ? 'complete' : `incomplete ${whole.need === undefined}`;
}

function attempt<Result>(step: () => Result): Result | string {
  try {
    return step();
  } catch (error) {
    assert.ok(error instanceof TcpcryptError, `${error}`);
    assert.equal(ERRORS[error.code].then, 'abort');
    return error.code;
  }
}

const init1: Target = {
  name: 'init1',
  about: 'the first byte of the input picks a TEP; then Init1',
  generate: (random) => initMessage(random, 1),
  run: (input) => runInit(input, decodeInit1),
};

const init2: Target = {
  name: 'init2',
  about: 'the first byte of the input picks a TEP; then Init2',
  generate: (random) => initMessage(random, 2),
  run: (input) => runInit(input, decodeInit2),
};

const plaintext: Target = {
  name: 'plaintext',
  about:
    'the decrypted contents of a frame, in the middle of other bytes: what is around them does not count',
  generate: (random) =>
    concat(
      Uint8Array.of(random.below(256), random.pick([0, 1, 2, 3, 0xff])),
      random.bytes(random.below(random.pick([1, 4, 40]))),
    ),
  run(input) {
    const before = input[0] ?? 0;
    const bytes = input.subarray(1);
    const around = concat(new Uint8Array(before).fill(3), bytes, new Uint8Array(9).fill(2));
    const alone = attempt(() => decodePlaintextHead(bytes));
    const within = attempt(() => decodePlaintextHead(around, before, before + bytes.length));
    assert.deepEqual(within, alone);
    if (typeof alone === 'string') return alone;
    assert.ok(alone.length <= bytes.length);
    return `${alone.fin} ${alone.urgent === undefined} ${bytes.length > alone.length}`;
  },
};

export const WIRE_TARGETS: readonly Target[] = [eno, tcpOptions, init1, init2, plaintext];
