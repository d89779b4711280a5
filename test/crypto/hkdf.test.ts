import assert from 'node:assert/strict';
import { createHmac, hkdfSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { cprf, extract } from '#src/crypto/index.js';
import { withCode } from '../support/code.js';
import { concat, fromHex, toHex } from '../support/vectors.js';

test('RFC 5869 A.1: test case 1', () => {
  const prk = extract(fromHex('000102030405060708090a0b0c'), [new Uint8Array(22).fill(0x0b)]);
  assert.equal(toHex(prk), '077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5');
  const okm = cprf(prk, [fromHex('f0f1f2f3f4f5f6f7f8f9')], 42);
  assert.equal(
    toHex(okm),
    '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
  );
});

test('property: Extract, then CPRF, is HKDF as node:crypto has it', () => {
  const bytes = fc.uint8Array({ maxLength: 80 });
  fc.assert(
    fc.property(
      bytes,
      bytes,
      bytes,
      bytes,
      fc.integer({ min: 1, max: 300 }),
      (salt, ikm1, ikm2, info, length) => {
        const expected = new Uint8Array(hkdfSync('sha256', concat([ikm1, ikm2]), salt, info, length));
        assert.deepEqual(cprf(extract(salt, [ikm1, ikm2]), [info], length), expected);
      },
    ),
  );
});

test('CPRF has 255 blocks at most, of HMAC(K, T | C | n)', () => {
  const key = new Uint8Array(32);
  const first = createHmac('sha256', key).update(Uint8Array.of(3, 1)).digest();
  assert.equal(toHex(cprf(key, [Uint8Array.of(3)], 32)), toHex(first));
  assert.equal(cprf(key, [], 255 * 32).length, 255 * 32);
  assert.throws(() => cprf(key, [], 255 * 32 + 1), withCode('ERR_TCPCRYPT_ARGUMENT'));
});
