import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { generateKeyPair } from '#src/crypto/index.js';
import type { ErrorCode } from '#src/errors.js';
import { TcpcryptError } from '#src/errors.js';
import {
  decodeInit1,
  decodeInit2,
  encodeInit1,
  encodeInit2,
  MAX_INIT_LENGTH,
  TEPS,
  type TepId,
} from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { concat, fromHex, toHex, vectors } from '../support/vectors.js';

type Row = { readonly name: string; readonly tep: TepId; readonly bytes: string; readonly message: 1 | 2 } & (
  | {
      readonly result: 'ok';
      readonly nonce: string;
      /** With the length field of NIST points. */
      readonly public: string;
      readonly ignored: string;
      readonly length: number;
      readonly ciphers?: readonly number[];
      readonly cipher?: number;
      readonly public_valid: boolean;
    }
  | { readonly result: 'incomplete'; readonly need: number | null }
  | { readonly result: 'abort'; readonly code: 'bad-magic' | 'bad-message-length' | 'bad-public-key' }
);

const decode = (row: Pick<Row, 'tep' | 'message'>, bytes: Uint8Array) =>
  row.message === 1 ? decodeInit1(row.tep, bytes) : decodeInit2(row.tep, bytes);

/** The codes that the vectors hint at; too long and too short are one there. */
const CODES: { readonly [hint: string]: readonly ErrorCode[] } = {
  'bad-magic': ['ERR_TCPCRYPT_INIT_MAGIC'],
  'bad-message-length': ['ERR_TCPCRYPT_INIT_LENGTH', 'ERR_TCPCRYPT_INIT_TOO_LONG'],
  'bad-public-key': ['ERR_TCPCRYPT_INIT_PUBLIC_KEY'],
};

const wirePublicKey = (tep: TepId, key: Uint8Array): string =>
  (TEPS[tep].lengthField ? Buffer.from([0, key.length + 2]).toString('hex') : '') + toHex(key);

test('init-messages.json', async (t) => {
  for (const row of vectors<Row>('init-messages')) {
    await t.test(row.name, () => {
      const bytes = fromHex(row.bytes);
      if (row.result === 'abort') {
        assert.throws(
          () => decode(row, bytes),
          (error) => error instanceof TcpcryptError && CODES[row.code]?.includes(error.code) === true,
        );
        return;
      }
      const decoded = decode(row, bytes);
      if (row.result === 'incomplete') {
        assert.deepEqual(decoded, { complete: false, need: row.need ?? undefined });
        return;
      }
      assert.ok(decoded.complete);
      const { message, length } = decoded;
      assert.equal(length, row.length);
      assert.equal(toHex(message.nonce), row.nonce);
      assert.equal(wirePublicKey(row.tep, message.publicKey), row.public);
      if ('ciphers' in message) assert.deepEqual(message.ciphers, row.ciphers);
      else assert.equal(message.cipher, row.cipher);

      // What we send is the same, but for the ignored field, which we leave empty (TC-7).
      const encoded = 'ciphers' in message ? encodeInit1(row.tep, message) : encodeInit2(row.tep, message);
      const sent = toHex(encoded.subarray(8));
      assert.equal(sent, row.bytes.slice(16, 2 * length - row.ignored.length));

      const pair = generateKeyPair(TEPS[row.tep].curve);
      if (row.public_valid) assert.ok(pair.agree(message.publicKey).length > 0);
      else assert.throws(() => pair.agree(message.publicKey), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'));
    });
  }
});

const init1 = (): Uint8Array =>
  encodeInit1(0x23, { ciphers: [1], nonce: new Uint8Array(32), publicKey: new Uint8Array(32) });

test('the length is known after 8 bytes, and a wrong magic byte is noticed at once', () => {
  const bytes = init1();
  for (let n = 0; n < 8; n++)
    assert.deepEqual(decodeInit1(0x23, bytes.subarray(0, n)), { complete: false, need: undefined });
  assert.deepEqual(decodeInit1(0x23, bytes.subarray(0, 8)), { complete: false, need: 75 });
  for (let n = 0; n < 4; n++) {
    const wrong = bytes.slice(0, n + 1);
    wrong[n] = (wrong[n] ?? 0) ^ 1;
    assert.throws(() => decodeInit1(0x23, wrong), withCode('ERR_TCPCRYPT_INIT_MAGIC'));
  }
});

test('TC-7: ignored bytes are skipped, up to the longest accepted message', () => {
  const longest = concat([init1(), new Uint8Array(MAX_INIT_LENGTH - 75)]);
  new DataView(longest.buffer).setUint32(4, MAX_INIT_LENGTH);
  assert.equal(decodeInit1(0x23, longest).complete, true);
  new DataView(longest.buffer).setUint32(4, MAX_INIT_LENGTH + 1);
  assert.throws(() => decodeInit1(0x23, longest.subarray(0, 8)), withCode('ERR_TCPCRYPT_INIT_TOO_LONG'));
});

const tepId = fc.constantFrom<TepId>(0x21, 0x22, 0x23, 0x24);
const nonce = fc.uint8Array({ minLength: 32, maxLength: 32 });
const publicKey = (tep: TepId) =>
  fc.uint8Array({ minLength: TEPS[tep].publicKeyLength, maxLength: TEPS[tep].publicKeyLength });
const cipherId = fc.integer({ min: 0, max: 0xffff });

test('property: what was encoded is decoded again, also with more bytes behind it', () => {
  const message = tepId.chain((tep) =>
    fc.record({
      tep: fc.constant(tep),
      nonce,
      publicKey: publicKey(tep),
      ciphers: fc.array(cipherId, { maxLength: 255 }),
      cipher: cipherId,
      behind: fc.uint8Array({ maxLength: 20 }),
    }),
  );
  fc.assert(
    fc.property(message, ({ tep, nonce, publicKey, ciphers, cipher, behind }) => {
      const first = encodeInit1(tep, { ciphers, nonce, publicKey });
      const second = encodeInit2(tep, { cipher, nonce, publicKey });
      const one = decodeInit1(tep, concat([first, behind]));
      const two = decodeInit2(tep, concat([second, behind]));
      assert.ok(one.complete && two.complete);
      assert.equal(one.length, first.length);
      assert.equal(two.length, second.length);
      assert.deepEqual(one.message.ciphers, ciphers);
      assert.equal(two.message.cipher, cipher);
      for (const { message } of [one, two]) {
        assert.equal(toHex(message.nonce), toHex(nonce));
        assert.equal(toHex(message.publicKey), toHex(publicKey));
      }
    }),
  );
});

test('property: arbitrary bytes give a result or a documented error', () => {
  const documented: readonly ErrorCode[] = Object.values(CODES).flat();
  const start = fc.constantFrom(fromHex('15101a0e0000'), fromHex('097105e00000'), new Uint8Array());
  fc.assert(
    fc.property(
      tepId,
      fc.constantFrom<1 | 2>(1, 2),
      start,
      fc.uint8Array({ maxLength: 200 }),
      (tep, message, magic, rest) => {
        try {
          decode({ tep, message }, concat([magic, rest]));
        } catch (error) {
          assert.ok(error instanceof TcpcryptError && documented.includes(error.code), String(error));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test('a nonce or a public key of another length is refused: no byte of a message is what was in memory before', () => {
  for (const tep of [0x21, 0x22, 0x23, 0x24] as const) {
    const { publicKeyLength } = TEPS[tep];
    for (const [nonce, key] of [
      [31, 0],
      [33, 0],
      [0, 0],
      [32, -1],
      [32, 1],
    ] as const) {
      const fields = { nonce: new Uint8Array(nonce), publicKey: new Uint8Array(publicKeyLength + key) };
      assert.throws(() => encodeInit1(tep, { ciphers: [1], ...fields }), withCode('ERR_TCPCRYPT_ARGUMENT'));
      assert.throws(() => encodeInit2(tep, { cipher: 1, ...fields }), withCode('ERR_TCPCRYPT_ARGUMENT'));
    }
  }
});
