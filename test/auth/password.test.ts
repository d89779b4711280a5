/** CPace and SPAKE2+: the vectors of their specifications, and what an attacker may try. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import * as cpaceSuite from '#src/auth/cpace.js';
import { cpace, createVerifier, GuessLimiter, spake2plus, stretchPassword } from '#src/auth/index.js';
import * as spake from '#src/auth/spake2plus.js';
import { withCode } from '../support/code.js';
import { both } from './support/outcome.js';
import { messagesIn, OTHER_SESSION_ID, onMessages, pair } from './support/pair.js';

const PROOF = 3;

/** Published vectors; their origin stands in the files. */
const published = (name: string): Record<string, string> =>
  JSON.parse(readFileSync(new URL(`../../../test/auth/vectors/${name}.json`, import.meta.url), 'utf8'));

const field = (vector: Record<string, string>, name: string): Buffer => {
  const hex = vector[name];
  assert.ok(hex !== undefined, name);
  return Buffer.from(hex, 'hex');
};

describe('CPace, draft-irtf-cfrg-cpace-21, appendix B.3', () => {
  const vector = published('cpace-ristretto255');
  const of = (name: string) => field(vector, name);

  test('lv_cat, appendix A', () => {
    const parts = ['1234', '5', '', '6789'].map((part) => Buffer.from(part));
    assert.equal(cpaceSuite.lvCat(...parts).toString('hex'), '04313233340135000436373839');
    const long = cpaceSuite.lvCat(Buffer.from(Array.from({ length: 128 }, (_, i) => i)));
    assert.equal(long.subarray(0, 3).toString('hex'), '800100');
    assert.equal(long.length, 130);
  });

  test('generator_string and generator', () => {
    assert.deepEqual(cpaceSuite.generatorString(of('PRS'), of('CI'), of('sid')), of('generator_string'));
    const g = cpaceSuite.generator(of('PRS'), of('CI'), of('sid'));
    assert.deepEqual(Buffer.from(g.toBytes()), of('g'));
  });

  test('shares, secret, ISK', () => {
    const g = cpaceSuite.generator(of('PRS'), of('CI'), of('sid'));
    const ya = cpaceSuite.decodeScalar(of('ya'));
    const yb = cpaceSuite.decodeScalar(of('yb'));
    assert.deepEqual(cpaceSuite.shareOf(ya, g), of('Ya'));
    assert.deepEqual(cpaceSuite.shareOf(yb, g), of('Yb'));
    assert.deepEqual(cpaceSuite.secretOf(ya, of('Yb')), of('K'));
    assert.deepEqual(cpaceSuite.secretOf(yb, of('Ya')), of('K'));
    const isk = cpaceSuite.sessionKey(
      of('sid'),
      of('K'),
      { share: of('Ya'), data: of('ADa') },
      { share: of('Yb'), data: of('ADb') },
    );
    assert.deepEqual(isk, of('ISK_IR'));
  });

  test('scalar_mult_vfy: a valid share, and those that must abort', () => {
    const s = cpaceSuite.decodeScalar(of('s'));
    assert.deepEqual(cpaceSuite.secretOf(s, of('X')), of('sX'));
    for (const name of ['Y_i1', 'Y_i2']) {
      assert.throws(() => cpaceSuite.secretOf(s, of(name)), withCode('ERR_TCPCRYPT_AUTH_SHARE'));
    }
  });
});

describe('SPAKE2+, RFC 9383, appendix C, P256-SHA256-HKDF-SHA256-HMAC-SHA256', () => {
  const vector = published('spake2plus-p256-sha256');
  const of = (name: string) => field(vector, name);
  const scalar = (name: string) => BigInt(`0x${of(name).toString('hex')}`);
  const identities = { context: of('context'), idProver: of('idProver'), idVerifier: of('idVerifier') };
  const secrets = { w0: scalar('w0'), w1: scalar('w1') };

  test('the verifier, and its encoding', () => {
    const encoded = spake.encodeVerifier(spake.verifierOf(secrets));
    assert.deepEqual(encoded, Buffer.concat([of('w0'), of('L')]));
    assert.deepEqual(spake.encodeVerifier(spake.decodeVerifier(encoded)), encoded);
  });

  test('shares', () => {
    assert.deepEqual(spake.proverShare(scalar('x'), secrets.w0), of('shareP'));
    assert.deepEqual(spake.verifierShare(scalar('y'), secrets.w0), of('shareV'));
  });

  test('keys and confirmations, on both sides', () => {
    const shares = [of('shareP'), of('shareV')] as const;
    const ofProver = spake.proverKeys(identities, secrets, scalar('x'), ...shares);
    const ofVerifier = spake.verifierKeys(identities, spake.verifierOf(secrets), scalar('y'), ...shares);
    for (const keys of [ofProver, ofVerifier]) {
      assert.deepEqual(keys.main, of('K_main'));
      assert.deepEqual(keys.confirmP, of('confirmP'));
      assert.deepEqual(keys.confirmV, of('confirmV'));
      assert.deepEqual(keys.shared, of('K_shared'));
    }
  });

  test('shares that must abort: off the curve, compressed, neutral after unblinding', () => {
    const verifier = spake.verifierOf(secrets);
    const offCurve = Buffer.from(of('shareP'));
    offCurve[64] = (offCurve[64] ?? 0) ^ 1;
    const compressed = Buffer.concat([Buffer.of(2), of('shareP').subarray(1, 33)]);
    const neutral = spake.proverShare(spake.randomScalar(), secrets.w0);
    assert.equal(neutral.length, spake.SHARE_LENGTH);
    for (const share of [offCurve, compressed, Buffer.alloc(65), Buffer.alloc(0), Buffer.of(0)]) {
      assert.throws(
        () => spake.verifierKeys(identities, verifier, 5n, share, of('shareV')),
        withCode('ERR_TCPCRYPT_AUTH_SHARE'),
      );
    }
  });
});

const REALM = 'mail';
const PASSWORD = 'correct horse';
const client = { user: 'alice', password: PASSWORD };
const stretched = await stretchPassword('alice', REALM, PASSWORD);
const record = await createVerifier('alice', REALM, PASSWORD);
const passwords = (user: string) => (user === 'alice' ? stretched : undefined);
const verifiers = (user: string) => (user === 'alice' ? record : undefined);

const suites = {
  cpace: { client: cpace, server: (more = {}) => cpace({ realm: REALM, passwords, ...more }) },
  spake2plus: { client: spake2plus, server: (more = {}) => spake2plus({ realm: REALM, verifiers, ...more }) },
};

for (const [name, { client: clientOf, server: serverOf }] of Object.entries(suites)) {
  describe(name, () => {
    const run = (options: { user: string; password: string; realm?: string }, server = serverOf()) =>
      both(pair(), { offer: [clientOf(options)] }, { offer: [server] });

    test('the right password', async () => {
      const [ofA, ofB] = await run({ ...client, realm: REALM });
      assert.deepEqual(ofA, { mechanism: name, name: REALM });
      assert.deepEqual(ofB, { mechanism: name, name: 'alice' });
    });

    test('a password is the same in every Unicode form', async () => {
      const [ofA] = await both(
        pair(),
        { offer: [cpace({ user: 'b', password: 'Zu\u0308rich' })] },
        { offer: [cpace({ realm: REALM, passwords: () => 'Z\u00fcrich' })] },
      );
      assert.equal(typeof ofA, 'object');
    });

    test('a wrong password, and an unknown user, look alike to the client', async () => {
      for (const options of [
        { ...client, password: 'wrong' },
        { user: 'nobody', password: PASSWORD },
      ]) {
        assert.deepEqual(await run(options), ['ERR_TCPCRYPT_AUTH_PROOF', 'ERR_TCPCRYPT_AUTH_REFUSED']);
      }
    });

    test('another realm than the expected one', async () => {
      assert.equal((await run({ ...client, realm: 'bank' }))[0], 'ERR_TCPCRYPT_AUTH_PROOF');
    });

    test('guessing is limited', async () => {
      const limit = new GuessLimiter({ perUser: 2 });
      const server = serverOf({ limit });
      const wrong = { ...client, password: 'wrong' };
      await run(client, server); // a success does not count
      assert.deepEqual((await run(wrong, server))[0], 'ERR_TCPCRYPT_AUTH_PROOF');
      assert.deepEqual((await run(wrong, server))[0], 'ERR_TCPCRYPT_AUTH_PROOF');
      assert.deepEqual(await run(client, server), ['ERR_TCPCRYPT_AUTH_REFUSED', 'ERR_TCPCRYPT_AUTH_GUESSES']);
    });

    test('role confusion: a client called by a server', async () => {
      const [ofA] = await both(pair(), { offer: [serverOf()] }, { offer: [clientOf(client)] });
      assert.equal(ofA, 'ERR_TCPCRYPT_ARGUMENT');
    });

    test('the session ID is covered: shares and confirmations of another connection are worthless', async () => {
      const recorded: Buffer[] = [];
      const before = pair(OTHER_SESSION_ID, OTHER_SESSION_ID);
      before.a.tamper = (chunk) => {
        for (const { type, body } of messagesIn(chunk)) if (type === PROOF) recorded.push(body);
        return chunk;
      };
      await both(before, { offer: [clientOf(client)] }, { offer: [serverOf()] });
      const ends = pair();
      ends.a.tamper = onMessages((type, body) => (type === PROOF ? recorded.shift() : body));
      const [, ofB] = await both(ends, { offer: [clientOf(client)] }, { offer: [serverOf()] });
      assert.match(String(ofB), /ERR_TCPCRYPT_AUTH_(PROOF|REFUSED)/);
      assert.equal(recorded.length, 1, 'the first message was replayed, and there was no second');
    });

    test('invalid shares', async () => {
      for (const from of ['a', 'b'] as const) {
        const ends = pair();
        ends[from].tamper = onMessages((type, body) =>
          type === PROOF && body.length > 30
            ? Buffer.concat([body.subarray(0, 2), Buffer.alloc(body.length - 2, 0xff)])
            : body,
        );
        const outcomes = await both(ends, { offer: [clientOf(client)] }, { offer: [serverOf()] });
        assert.ok(outcomes.includes('ERR_TCPCRYPT_AUTH_SHARE'), String(outcomes));
      }
    });
  });
}

test('spake2plus: the client refuses a server that asks for less stretching, or for too much', async () => {
  for (const logN of [10, 25]) {
    const ends = pair();
    ends.b.tamper = onMessages((type, body) => {
      if (type !== PROOF || body.length !== 2 + 19) return body;
      const changed = Buffer.from(body);
      changed[2] = logN;
      return changed;
    });
    const [ofA] = await both(
      ends,
      { offer: [spake2plus(client)] },
      { offer: [spake2plus({ realm: REALM, verifiers })] },
    );
    assert.equal(ofA, 'ERR_TCPCRYPT_AUTH_MESSAGE');
  }
});

test('spake2plus: records that cannot be read', async () => {
  for (const broken of [
    '',
    'spake2plus:2:15:8:1:AAAA:AAAA',
    record.slice(0, -8),
    record.replace(':15:', ':3:'),
  ]) {
    const server = spake2plus({ realm: REALM, verifiers: () => broken });
    const [, ofB] = await both(pair(), { offer: [spake2plus(client)] }, { offer: [server] });
    assert.equal(ofB, 'ERR_TCPCRYPT_ARGUMENT');
  }
});

test('GuessLimiter: by address, for a while, and only so many entries', () => {
  let now = 0;
  const limiter = new GuessLimiter({ perAddress: 3, window: 1000 }, () => now);
  const from = (user: string, remoteAddress = '192.0.2.1') => limiter.begin({ user, remoteAddress });
  assert.deepEqual([from('a'), from('b'), from('c'), from('d')], [true, true, true, false]);
  assert.equal(from('d', '192.0.2.2'), true);
  now = 1001;
  assert.equal(from('d'), true);
  for (let i = 0; i < 30_000; i++) from(`user ${i}`, `address ${i}`);
});

test('GuessLimiter: addresses of one IPv6 network are one, in every spelling; others, and IPv4, are each their own', () => {
  const limiter = new GuessLimiter({ perAddress: 1 });
  const begins = (remoteAddress: string, user: string) => limiter.begin({ user, remoteAddress });
  const same = [
    '2001:db8:0:7::1',
    '2001:DB8:0:7:8000::2',
    '2001:0db8:0000:0007:0:0:0:3',
    '2001:db8::7:0:0:0:4',
  ];
  assert.deepEqual(
    same.map((address, i) => begins(address, `user ${i}`)),
    [true, false, false, false],
  );
  const others = ['2001:db8:0:8::1', '2001:db8::1', '::1', 'fe80::1%eth0', '1:2:3:4:5:6:7:8', '::'];
  assert.deepEqual(
    others.map((address, i) => begins(address, `other ${i}`)),
    [true, true, true, true, true, false], // ::1 and :: are of one network
  );
  const ipv4 = ['::ffff:10.0.0.1', '::ffff:10.0.0.2', '10.0.0.1', '10.0.0.2', ''];
  assert.deepEqual(
    ipv4.map((address, i) => begins(address, `ipv4 ${i}`)),
    Array(5).fill(true),
  );
});
