/** Raw host keys: pinned, or remembered at first use. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  fingerprint,
  type KeyTrust,
  knownHosts,
  knownKey,
  type Peer,
  pinnedKeys,
  rawPublicKey,
} from '#src/auth/index.js';
import { withCode } from '../support/code.js';
import { both, type Outcome } from './support/outcome.js';
import { onMessages, pair } from './support/pair.js';

const host = generateKeyPairSync('ed25519');
const other = generateKeyPairSync('ed25519');
const raw = rawPublicKey(host.publicKey);
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-known-'));
after(() => rmSync(directory, { recursive: true }));

const ofHost = { offer: [knownKey({ key: host.privateKey })] };
const judged = async (trust: KeyTrust, ofB = ofHost): Promise<Outcome> =>
  (await both(pair(), { offer: [knownKey({ trust })] }, ofB))[0];

test('a pinned key', async () => {
  for (const key of [host.publicKey, host.privateKey, raw]) {
    const peer = await judged(pinnedKeys({ db: key }));
    assert.deepEqual(peer, { mechanism: 'known-key', name: 'db', key: raw });
  }
  assert.equal(await judged(pinnedKeys({ db: other.publicKey })), 'ERR_TCPCRYPT_AUTH_KEY_UNKNOWN');
});

test('somebody who only knows the public key', async () => {
  const ends = pair();
  ends.b.tamper = onMessages((type, body) =>
    type === 3 ? Buffer.concat([body.subarray(0, 2), raw, body.subarray(34)]) : body,
  );
  const ofB = { offer: [knownKey({ key: other.privateKey })] };
  const outcome = await both(ends, { offer: [knownKey({ trust: pinnedKeys({ db: raw }) })] }, ofB);
  assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_PROOF', 'ERR_TCPCRYPT_AUTH_REFUSED']);
});

test('proofs of every wrong length', async () => {
  for (const length of [0, 1, 31, 32, 95, 97]) {
    const ends = pair();
    ends.b.tamper = onMessages((type, body) =>
      type === 3 ? Buffer.concat([body.subarray(0, 2), randomBytes(length)]) : body,
    );
    const [ofA] = await both(ends, { offer: [knownKey({ trust: pinnedKeys({ db: raw }) })] }, ofHost);
    assert.match(String(ofA), /^ERR_TCPCRYPT_AUTH_(PROOF|TOO_LONG)$/);
  }
});

describe('known hosts', () => {
  let number = 0;
  const fresh = (): string => join(directory, `known-${number++}`);

  test('remembered at first use, with a word to people; known from then on; a changed key is refused', async () => {
    const file = fresh();
    const told: string[] = [];
    const options = {
      file,
      host: 'db.example:5432',
      onFirstUse: (...args: string[]) => told.push(args.join(' ')),
    };
    assert.deepEqual(await judged(knownHosts(options)), {
      mechanism: 'known-key',
      name: 'db.example:5432',
      key: raw,
    });
    assert.deepEqual(told, [`db.example:5432 ${fingerprint(raw)}`]);
    assert.match(readFileSync(file, 'utf8'), /^db\.example:5432 ed25519 \S{44} \d{4}-\d\d-\d\d\n$/);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(typeof (await judged(knownHosts(options))), 'object');
    assert.equal(told.length, 1);

    const impostor = { offer: [knownKey({ key: other.privateKey })] };
    const before = readFileSync(file, 'utf8');
    assert.equal(await judged(knownHosts(options), impostor), 'ERR_TCPCRYPT_AUTH_KEY_CHANGED');
    assert.equal(readFileSync(file, 'utf8'), before);
    // The message tells both fingerprints, and where to look.
    await assert.rejects(
      Promise.resolve(knownHosts(options).check(rawPublicKey(other.publicKey))),
      (error: Error) => {
        for (const part of [
          fingerprint(raw),
          fingerprint(rawPublicKey(other.publicKey)),
          file,
          'line 1',
          'CHANGED',
        ]) {
          assert.ok(error.message.includes(part), part);
        }
        return true;
      },
    );
  });

  test('strict: an unknown host is refused, and nothing is written', async () => {
    const file = fresh();
    const trust = knownHosts({ file, host: 'db:1', firstUse: 'refuse' });
    assert.equal(await judged(trust), 'ERR_TCPCRYPT_AUTH_KEY_UNKNOWN');
    assert.ok(!existsSync(file));
  });

  test('comments and other hosts stay', async () => {
    const file = fresh();
    writeFileSync(file, '# mine\n\nother:1 ed25519 AAAA');
    await judged(knownHosts({ file, host: 'db:1' }));
    assert.match(readFileSync(file, 'utf8'), /^# mine\n\nother:1 ed25519 AAAA\ndb:1 ed25519 /);
  });

  test('several keys for one host, the new one beside the old one', async () => {
    const file = fresh();
    const line = (key: Uint8Array): string => `db:1 ed25519 ${Buffer.from(key).toString('base64')}\n`;
    writeFileSync(file, line(rawPublicKey(other.publicKey)) + line(raw));
    assert.equal(typeof (await judged(knownHosts({ file, host: 'db:1' }))), 'object');
    writeFileSync(file, line(rawPublicKey(other.publicKey)).repeat(2));
    assert.equal(await judged(knownHosts({ file, host: 'db:1' })), 'ERR_TCPCRYPT_AUTH_KEY_CHANGED');
  });

  test('an IPv6 address is the same in every spelling', async () => {
    const file = fresh();
    writeFileSync(file, `FD00:0:0::00a1 ed25519 ${raw.toString('base64')}\n`);
    const trust = knownHosts({ file, firstUse: 'refuse' });
    assert.equal(await trust.check(raw, 'fd00::a1'), 'fd00::a1');
    await assert.rejects(
      Promise.resolve(trust.check(raw, 'fd00::a2')),
      withCode('ERR_TCPCRYPT_AUTH_KEY_UNKNOWN'),
    );
  });

  test('without a name, the peer is known by its address', async () => {
    const file = fresh();
    const peer = await judged(knownHosts({ file }));
    assert.equal((peer as Peer).name, '192.0.2.1');
    const trust = knownHosts({ file });
    assert.equal(await trust.check(raw, '::ffff:192.0.2.1'), '192.0.2.1');
    await assert.rejects(
      Promise.resolve(trust.check(rawPublicKey(other.publicKey), '192.0.2.1')),
      withCode('ERR_TCPCRYPT_AUTH_KEY_CHANGED'),
    );
    await assert.rejects(Promise.resolve(trust.check(raw)), withCode('ERR_TCPCRYPT_AUTH_KEY_UNKNOWN'));
  });

  test('first uses at the same time lose none', async () => {
    const file = fresh();
    const hosts = Array.from({ length: 12 }, (_, i) => `host${i}:1`);
    const outcomes = await Promise.all(hosts.map((name) => judged(knownHosts({ file, host: name }))));
    for (const outcome of outcomes) assert.equal(typeof outcome, 'object');
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    assert.deepEqual(lines.map((line) => line.split(' ')[0]).sort(), [...hosts].sort());
    assert.ok(!existsSync(`${file}.lock`));
  });

  test('two keys for one host at the same time: one wins, the other is a changed key', async () => {
    const file = fresh();
    const trust = knownHosts({ file, host: 'db:1' });
    const outcomes = await Promise.all([
      judged(trust),
      judged(trust, { offer: [knownKey({ key: other.privateKey })] }),
    ]);
    assert.deepEqual(outcomes.map((outcome) => typeof outcome).sort(), ['object', 'string']);
    assert.ok(outcomes.includes('ERR_TCPCRYPT_AUTH_KEY_CHANGED'));
  });

  test('a lock that somebody left behind', async () => {
    const file = fresh();
    writeFileSync(`${file}.lock`, '');
    utimesSync(`${file}.lock`, 0, 0);
    assert.equal(typeof (await judged(knownHosts({ file, host: 'db:1' }))), 'object');
  });

  test('files that cannot be used', async () => {
    const broken = fresh();
    writeFileSync(broken, 'db:1 ed25519 AAAA\n');
    const large = fresh();
    writeFileSync(large, '#'.repeat(1024 * 1024 + 1));
    for (const file of [broken, large, directory, join(directory, 'no', 'such', 'directory')]) {
      assert.equal(await judged(knownHosts({ file, host: 'db:1' })), 'ERR_TCPCRYPT_AUTH_KNOWN_HOSTS');
    }
  });
});

test('wrong use of the API', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  for (const wrong of [
    () => knownKey({}),
    () => knownKey({ key: host.publicKey }),
    () => knownKey({ key: rsa.privateKey }),
    () => pinnedKeys({ db: Buffer.alloc(31) }),
    () => pinnedKeys({ db: rsa.publicKey }),
    () => knownHosts({ file: 'x', host: 'a b' }),
    () => knownHosts({ file: 'x', host: '' }),
    () => knownHosts({ file: 'x', host: 'a\nb' }),
  ]) {
    assert.throws(wrong, withCode('ERR_TCPCRYPT_ARGUMENT'));
  }
});
