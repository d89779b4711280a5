import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkShareCount, largestShareCount, shareOf, sharePattern } from '#src/kernel/shares.js';

test('the last bits of an address choose the worker, in either notation of IPv4', () => {
  for (const [address, count, share] of [
    ['10.0.0.6', 4, 2],
    ['::ffff:10.0.0.6', 4, 2],
    ['192.0.2.255', 16, 15],
    ['2001:db8::1', 2, 1],
    ['2001:db8::', 2, 0],
    ['fd69:1::fe', 8, 6],
    ['10.0.0.7', 1, 0],
  ] as const)
    assert.equal(shareOf(address, count), share, address);
});

test('rules say the same', () => {
  assert.equal(sharePattern('ipv4', 0, 1), undefined);
  assert.deepEqual(sharePattern('ipv4', 2, 4), { mask: '0.0.0.3', value: '0.0.0.2' });
  assert.deepEqual(sharePattern('ipv6', 10, 16), { mask: '::f', value: '::a' });
});

test('a power of two, at most 16', () => {
  for (const count of [1, 2, 4, 8, 16]) checkShareCount(count);
  for (const count of [0, 3, 6, 32, 1.5, -2, Number.NaN])
    assert.throws(() => checkShareCount(count), { code: 'ERR_TCPCRYPT_ARGUMENT' }, `${count}`);
  assert.deepEqual([0, 1, 2, 3, 6, 12, 200].map(largestShareCount), [1, 1, 2, 2, 4, 8, 16]);
});
