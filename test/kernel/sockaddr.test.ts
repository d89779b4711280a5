import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import { addressBytes, addressText, fromSockaddr, sockaddr, writeAddress } from '#src/kernel/sockaddr.js';

const BYTES: Readonly<Record<string, string>> = {
  '0.0.0.0': '00000000000000000000ffff00000000',
  '10.0.200.255': '00000000000000000000ffff0a00c8ff',
  '255.255.255.255': '00000000000000000000ffffffffffff',
  '::': '00000000000000000000000000000000',
  '::1': '00000000000000000000000000000001',
  'fd00:1::ab': 'fd0000010000000000000000000000ab',
  '1:2:3:4:5:6:7:8': '00010002000300040005000600070008',
  '::ffff:10.1.2.3': '00000000000000000000ffff0a010203',
};

test('addresses as 16 bytes, also in memory that had another one', () => {
  for (const [text, hex] of Object.entries(BYTES)) {
    assert.equal(addressBytes(text).toString('hex'), hex, text);
    const used = Buffer.alloc(20, 0xee);
    writeAddress(text, used, 2);
    assert.equal(used.toString('hex'), `eeee${hex}eeee`, text);
  }
});

test('texts that node:net takes for no address are none', () => {
  const doubtful = [
    '',
    '.',
    '1',
    '1.2.3',
    '1.2.3.',
    '.1.2.3',
    '1..2.3',
    '1.2.3.4.',
    '1.2.3.4.5',
    '1.2.3.256',
    '1.2.3.1000',
  ];
  doubtful.push(
    '01.2.3.4',
    '1.2.3.00',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.-4',
    '0x1.2.3.4',
    '1,2,3,4',
    'a.b.c.d',
    '1:2',
    ':::',
  );
  for (const text of doubtful) {
    assert.equal(isIP(text), 0, text);
    assert.throws(() => addressBytes(text), { code: 'ERR_TCPCRYPT_ARGUMENT' }, text);
    assert.throws(() => sockaddr(text, 1), { code: 'ERR_TCPCRYPT_ARGUMENT' }, text);
  }
});

test('dotted quads at random', () => {
  for (let i = 0; i < 2000; i++) {
    const quad = Array.from({ length: 4 }, () => Math.floor(Math.random() * 256));
    const text = quad.join('.');
    assert.deepEqual([...addressBytes(text).subarray(12)], quad);
    assert.equal(addressText(addressBytes(text)), text);
    assert.deepEqual(fromSockaddr(sockaddr(text, i)), { address: text, port: i });
  }
});
