/** Certificates: chains that are right and wrong, batches, and proofs that are for another connection. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes, type X509Certificate } from 'node:crypto';
import { describe, test } from 'node:test';
import { BatchSigner, certificate } from '#src/auth/index.js';
import { leafOf, rootOf, tree } from '#src/auth/merkle.js';
import type { ErrorCode } from '#src/errors.js';
import { withCode } from '../support/code.js';
import {
  authority,
  CLIENT,
  type Issued,
  issue,
  type Request,
  serverCertificate,
  x509,
} from './support/ca.js';
import { both, type Outcome } from './support/outcome.js';
import { OTHER_SESSION_ID, onMessages, pair } from './support/pair.js';

const HOST = 'server.example';
const PROOF = 3;
const DAY = 86_400_000;

const root = await authority();
const server = await serverCertificate(root);

/** What a client that trusts `ca` thinks of a server with this certificate. */
async function judged(
  { key }: Issued,
  chain: string,
  { ca = root.pem, host = HOST }: { ca?: string; host?: string } = {},
): Promise<[Outcome, Outcome]> {
  return both(
    pair(),
    { offer: [certificate({ trust: { ca, host } })] },
    { offer: [certificate({ key, chain })] },
  );
}

describe('chains', () => {
  test('a server certificate of a trusted CA; the client stays anonymous', async () => {
    const [ofA, ofB] = await judged(server, server.pem);
    assert.ok(typeof ofA === 'object');
    assert.deepEqual([ofA.mechanism, ofA.name, ofA.certificate?.subject], ['certificate', HOST, 'CN=server']);
    assert.equal(ofB, undefined);
  });

  for (const kind of ['rsa', 'p256', 'p384', 'ed25519'] as const) {
    test(`keys of kind ${kind}, for CA and server`, async () => {
      const ca = await authority({ kind });
      const leaf = await serverCertificate(ca, { kind });
      const [ofA] = await judged(leaf, leaf.pem, { ca: ca.pem });
      assert.equal(typeof ofA, 'object', String(ofA));
    });
  }

  test('through intermediate CAs, sent in any order', async () => {
    const usage = x509.KeyUsageFlags.keyCertSign;
    const one = await issue({ subject: 'CN=One', issuer: root, ca: true, usage });
    const two = await issue({ subject: 'CN=Two', issuer: one, ca: true, usage, pathLength: 0 });
    const leaf = await serverCertificate(two);
    for (const chain of [leaf.pem + two.pem + one.pem, leaf.pem + one.pem + two.pem]) {
      assert.equal(typeof (await judged(leaf, chain))[0], 'object');
    }
    assert.equal((await judged(leaf, leaf.pem + two.pem))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
  });

  test('an address instead of a name', async () => {
    const leaf = await serverCertificate(root, { names: [{ type: 'ip', value: '192.0.2.7' }] });
    assert.equal(typeof (await judged(leaf, leaf.pem, { host: '192.0.2.7' }))[0], 'object');
    const [ofA] = await judged(leaf, leaf.pem, { host: '192.0.2.8' });
    assert.equal(ofA, 'ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME');
  });

  test('a self-signed certificate that is itself trusted', async () => {
    const own = await serverCertificate(undefined as never);
    assert.equal(typeof (await judged(own, own.pem, { ca: own.pem }))[0], 'object');
    assert.equal((await judged(own, own.pem))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
  });

  test('a CA of the same name, but with another key', async () => {
    const impostor = await serverCertificate(await authority());
    assert.equal((await judged(impostor, impostor.pem))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
  });

  const wrong: readonly [string, Request, ErrorCode?][] = [
    ['expired', { from: new Date(Date.now() - 2 * DAY), to: new Date(Date.now() - DAY) }],
    ['not yet valid', { from: new Date(Date.now() + DAY), to: new Date(Date.now() + 2 * DAY) }],
    ['for clients only', { purposes: [CLIENT] }],
    ['a key that is not for signatures', { usage: x509.KeyUsageFlags.keyEncipherment }],
    [
      'an unknown critical extension',
      { more: [new x509.Extension('1.2.3.4', true, new Uint8Array([5, 0]))] },
    ],
    ['name constraints', { more: [new x509.Extension('2.5.29.30', true, new Uint8Array([0x30, 0]))] }],
    [
      'for another host',
      { names: [{ type: 'dns', value: 'other.example' }] },
      'ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME',
    ],
    [
      'the name in the subject only',
      { subject: `CN=${HOST}`, names: [] },
      'ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME',
    ],
    [
      'a wildcard within a label',
      { names: [{ type: 'dns', value: 'ser*.example' }] },
      'ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME',
    ],
  ];
  for (const [what, request, code = 'ERR_TCPCRYPT_AUTH_CERTIFICATE'] of wrong) {
    test(`refused: ${what}`, async () => {
      const leaf = await serverCertificate(root, request);
      assert.deepEqual(await judged(leaf, leaf.pem), [code, 'ERR_TCPCRYPT_AUTH_REFUSED']);
    });
  }

  const wrongIssuers: readonly [string, Request][] = [
    ['no CA', { ca: false, usage: x509.KeyUsageFlags.keyCertSign }],
    ['no basic constraints', { usage: x509.KeyUsageFlags.keyCertSign }],
    ['a CA without keyCertSign', { ca: true, usage: x509.KeyUsageFlags.digitalSignature }],
    ['a CA with an RSA key of 1024 bits', { ca: true, kind: 'rsa1024' }],
    ['an expired CA', { ca: true, to: new Date(Date.now() - 1000) }],
    ['a CA for clients only', { ca: true, purposes: [CLIENT] }],
  ];
  for (const [what, request] of wrongIssuers) {
    test(`refused: the issuer is ${what}`, async () => {
      const middle = await issue({ subject: 'CN=Middle', issuer: root, ...request });
      const leaf = await serverCertificate(middle);
      assert.equal((await judged(leaf, leaf.pem + middle.pem))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
    });
  }

  test('refused: longer than pathLenConstraint allows', async () => {
    const usage = x509.KeyUsageFlags.keyCertSign;
    const short = await authority({ subject: 'CN=Short', pathLength: 0 });
    const middle = await issue({ subject: 'CN=Middle', issuer: short, ca: true, usage });
    const leaf = await serverCertificate(middle);
    const [ofA] = await judged(leaf, leaf.pem + middle.pem, { ca: short.pem });
    assert.equal(ofA, 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
    const direct = await serverCertificate(short);
    assert.equal(typeof (await judged(direct, direct.pem, { ca: short.pem }))[0], 'object');
  });

  test('refused: signed with SHA-1', async () => {
    const ca = await authority({ kind: 'rsaSha1' });
    const leaf = await serverCertificate(ca);
    assert.equal((await judged(leaf, leaf.pem, { ca: ca.pem }))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
  });

  test('refused: signed with SHA-1, also by a CA of the same name: only an anchor need not be signed', async () => {
    const ca = await authority({ kind: 'rsaSha1' });
    const renamed = await serverCertificate(ca, { subject: ca.subject });
    const renewed = await authority({ issuer: ca });
    const below = await serverCertificate(renewed);
    for (const [leaf, chain] of [
      [renamed, renamed.pem],
      [below, below.pem + renewed.pem],
    ] as const)
      assert.equal((await judged(leaf, chain, { ca: ca.pem }))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
    const good = await authority({ kind: 'rsa' });
    const later = await authority({ issuer: good });
    const leaf = await serverCertificate(later);
    assert.equal(typeof (await judged(leaf, leaf.pem + later.pem, { ca: good.pem }))[0], 'object');
  });

  test('mutual: the server decides who the client is', async () => {
    const client = await issue({
      subject: 'CN=alice',
      issuer: root,
      purposes: [CLIENT],
      names: [{ type: 'email', value: 'alice@example.org' }],
    });
    const authorize = ({ subject }: X509Certificate) => (subject === 'CN=alice' ? 'alice' : undefined);
    const ofServer = { key: server.key, chain: server.pem, trust: { ca: root.pem, authorize } };
    const judge = (key: Issued) =>
      both(
        pair(),
        { offer: [certificate({ key: key.key, chain: key.pem, trust: { ca: root.pem, host: HOST } })] },
        { offer: [certificate(ofServer)] },
      );
    const [ofA, ofB] = await judge(client);
    assert.deepEqual([(ofA as { name: string }).name, (ofB as { name: string }).name], [HOST, 'alice']);
    const bob = await issue({ subject: 'CN=bob', issuer: root, purposes: [CLIENT] });
    assert.deepEqual(await judge(bob), ['ERR_TCPCRYPT_AUTH_REFUSED', 'ERR_TCPCRYPT_AUTH_CERTIFICATE']);
    assert.equal((await judge(server))[1], 'ERR_TCPCRYPT_AUTH_CERTIFICATE'); // serverAuth is not clientAuth
  });

  test('a chain that was found right is remembered, but not beyond its end, and not for another', async (context) => {
    const end = new Date(Date.now() + 30_000);
    const leaf = await serverCertificate(root, { to: end });
    const ofClient = { offer: [certificate({ trust: { ca: root.pem, host: HOST } })] };
    const ofServer = { offer: [certificate({ key: leaf.key, chain: leaf.pem })] };
    for (let round = 0; round < 2; round++) {
      assert.equal(typeof (await both(pair(), ofClient, ofServer))[0], 'object');
    }
    const impostor = await serverCertificate(await authority());
    const ofImpostor = { offer: [certificate({ key: impostor.key, chain: impostor.pem })] };
    assert.equal((await both(pair(), ofClient, ofImpostor))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
    context.mock.timers.enable({ apis: ['Date'], now: end.getTime() + 1000 });
    assert.equal((await both(pair(), ofClient, ofServer))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE');
  });

  test('wrong use of the API', () => {
    const { key, pem: chain } = server;
    for (const options of [
      {},
      { key },
      { chain },
      { trust: { ca: root.pem } },
      { key: root.key, chain },
      { key, chain: 'no PEM' },
      { key: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey, chain },
    ]) {
      assert.throws(() => certificate(options), withCode('ERR_TCPCRYPT_ARGUMENT'));
    }
  });
});

describe('batches', () => {
  test('every leaf has its path, for trees of every shape up to 33 leaves', () => {
    for (let size = 1; size <= 33; size++) {
      const leaves = Array.from({ length: size }, () => leafOf(randomBytes(32), randomBytes(32)));
      const { root: top, paths } = tree(leaves);
      leaves.forEach((leaf, i) => {
        const path = paths[i];
        assert.ok(path !== undefined);
        assert.deepEqual(rootOf(leaf, path), top);
        assert.notDeepEqual(rootOf(leafOf(randomBytes(32), randomBytes(32)), path), top);
        for (const index of [i + 1, i + size]) {
          const other = rootOf(leaf, { ...path, index });
          assert.ok(other === undefined || (size > 1 && !other.equals(top)), `${size} ${i} ${index}`);
        }
        assert.equal(rootOf(leaf, { ...path, siblings: [...path.siblings, leaf] }), undefined);
        if (path.siblings.length > 0) {
          assert.equal(rootOf(leaf, { ...path, siblings: path.siblings.slice(1) }), undefined);
        }
      });
    }
  });

  test('an idle server signs at once, a busy one for all that wait', async () => {
    const signer = new BatchSigner({ key: server.key });
    await signer.sign(randomBytes(32));
    assert.deepEqual([signer.signatures, signer.signed], [1, 1]);
    const first = signer.sign(randomBytes(32));
    await new Promise((resolve) => setImmediate(resolve)); // it is being computed
    const others = Array.from({ length: 50 }, () => signer.sign(randomBytes(32)));
    await Promise.all([first, ...others]);
    assert.deepEqual([signer.signatures, signer.signed], [3, 52]);
  });

  test('a batch has a maximum', async () => {
    const signer = new BatchSigner({ key: server.key, maximum: 8 });
    await Promise.all(Array.from({ length: 20 }, () => signer.sign(randomBytes(32))));
    assert.deepEqual([signer.signatures, signer.signed], [3, 20]);
  });

  test('many connections, one signature', async () => {
    const signer = new BatchSigner({ key: server.key });
    const ofServer = certificate({ key: signer, chain: server.pem });
    const ofClient = certificate({ trust: { ca: root.pem, host: HOST } });
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, () => {
        const id = randomBytes(33);
        return both(pair(id, id), { offer: [ofClient] }, { offer: [ofServer] });
      }),
    );
    for (const [ofA] of outcomes) assert.equal((ofA as { name: string }).name, HOST);
    assert.equal(signer.signed, 30);
    assert.ok(signer.signatures < 5, `${signer.signatures} signatures`);
  });
});

describe('a man in the middle', () => {
  const ofServer = { offer: [certificate({ key: server.key, chain: server.pem })] };
  const ofClient = { offer: [certificate({ trust: { ca: root.pem, host: HOST } })] };

  test('replay: the proof of another connection', async () => {
    let recorded: Buffer | undefined;
    const before = pair(OTHER_SESSION_ID, OTHER_SESSION_ID);
    before.b.tamper = onMessages((type, body) => {
      if (type === PROOF) recorded = body;
      return body;
    });
    await both(before, ofClient, ofServer);
    const ends = pair();
    ends.b.tamper = onMessages((type, body) => (type === PROOF ? recorded : body));
    const outcome = await both(ends, ofClient, ofServer);
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_BATCH', 'ERR_TCPCRYPT_AUTH_REFUSED']);
  });

  test('every changed byte of a proof is found', async () => {
    let length = 0;
    for (let at = 2; length === 0 || at < length; at += 13) {
      const ends = pair();
      ends.b.tamper = onMessages((type, body) => {
        if (type !== PROOF) return body;
        length = body.length;
        const changed = Buffer.from(body);
        const here = Math.min(at, length - 1); // signatures of ECDSA differ in length
        changed[here] = (changed[here] ?? 0) ^ 0x55;
        return changed;
      });
      const [ofA] = await both(ends, ofClient, ofServer);
      assert.match(String(ofA), /^ERR_TCPCRYPT_AUTH_(MESSAGE|CERTIFICATE|BATCH)/, `byte ${at}`);
    }
  });

  test('his own certificate, of the same CA, for another host', async () => {
    const his = await serverCertificate(root, { names: [{ type: 'dns', value: 'evil.example' }] });
    assert.equal((await judged(his, his.pem))[0], 'ERR_TCPCRYPT_AUTH_CERTIFICATE_NAME');
  });
});
