import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cprf, importKeyPair, nodeAead } from '#src/crypto/index.js';
import { type Direction, type MasterKey, SessionSecret } from '#src/session/key-schedule.js';
import { type AeadId, TEPS } from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { fromHex, toHex } from '../support/vectors.js';
import { type ConnectionVector, type SessionVector, sessionVectors } from './session-vectors.js';

/** Undoes what surrounds a public key on the wire. */
const rawPublicKey = ({ tep }: SessionVector, wire: string): Uint8Array =>
  fromHex(wire).subarray(TEPS[tep].lengthField ? 2 : 0);

function agree(row: SessionVector): Uint8Array {
  const { curve } = TEPS[row.tep];
  const a = importKeyPair(curve, fromHex(row.a.private));
  const b = importKeyPair(curve, fromHex(row.b.private));
  assert.equal(toHex(a.publicKey), toHex(rawPublicKey(row, row.a.public)));
  assert.equal(toHex(b.publicKey), toHex(rawPublicKey(row, row.b.public)));
  const es = a.agree(b.publicKey);
  assert.equal(toHex(es), row.es);
  assert.equal(toHex(b.agree(a.publicKey)), row.es);
  return es;
}

function trafficKey(masterKey: MasterKey, direction: Direction, cipher: AeadId): { key: string; nr: string } {
  const stage = masterKey.trafficKey(direction, cipher);
  let key = '';
  stage.aead((name, bytes) => {
    key = toHex(bytes);
    return nodeAead(name, bytes);
  });
  return { key, nr: toHex(stage.nr) };
}

function checkConnection(
  secret: SessionSecret,
  row: SessionVector,
  connection: ConnectionVector,
  tepByte: number,
): void {
  const sn = fromHex(connection.sn);
  assert.equal(toHex(secret.sessionId(tepByte, sn)), connection.session_id);
  let masterKey = secret.masterKey(sn);
  connection.mk.forEach((mk, j) => {
    for (const [direction, label, expected] of [
      ['ab', 4, connection.k_ab[j]],
      ['ba', 5, connection.k_ba[j]],
    ] as const) {
      const { key, nr } = trafficKey(masterKey, direction, row.aead);
      assert.deepEqual({ key, nr }, { key: expected?.key, nr: expected?.nr }, `generation ${j}`);
      // mk itself is not readable; the vector's mk must lead to the same place.
      assert.equal(toHex(cprf(fromHex(mk), [Uint8Array.of(label)], (key + nr).length / 2)), key + nr);
    }
    const next = masterKey.next();
    masterKey.erase();
    masterKey = next;
  });
}

test('sessions.json: from ECDH to traffic keys, all generations, fresh and resumed', async (t) => {
  for (const row of sessionVectors()) {
    await t.test(row.name, () => {
      const es = agree(row);
      let secret = SessionSecret.ofKeyExchange({
        transcript: fromHex(row.transcript),
        nonceA: fromHex(row.a.nonce),
        init1: fromHex(row.init1),
        init2: fromHex(row.init2),
        es,
      });
      assert.ok(
        es.every((byte) => byte === 0),
        'ES is erased',
      );
      // PRK itself is not readable; the vector's must lead to the same place.
      assert.equal(toHex(secret.exportNext()), toHex(cprf(fromHex(row.prk), [Uint8Array.of(1)], 32)));
      checkConnection(secret, row, row.fresh, row.tep);
      assert.equal(row.ss.length, row.resumed.length + 1);
      row.ss.forEach((_, i) => {
        if (i + 1 < row.ss.length) assert.equal(toHex(secret.exportNext()), row.ss[i + 1]);
        const { halfA, halfB } = secret.resumptionId();
        assert.equal(toHex(halfA) + toHex(halfB), row.resume[i]);
        const resumed = row.resumed[i - 1];
        if (resumed !== undefined) {
          assert.equal(resumed.index, i);
          checkConnection(secret, row, resumed, resumed.tep_byte);
        }
        const next = secret.next();
        secret.erase();
        secret = next;
      });
    });
  }
});

test('TC-43: an erased secret derives nothing', () => {
  const secret = SessionSecret.restore(new Uint8Array(32));
  const masterKey = secret.masterKey(new Uint8Array());
  const key = masterKey.trafficKey('ab', 1);
  for (const stage of [secret, masterKey, key]) stage.erase();
  assert.throws(() => secret.next(), withCode('ERR_TCPCRYPT_CLOSED'));
  assert.throws(() => masterKey.next(), withCode('ERR_TCPCRYPT_CLOSED'));
  assert.throws(() => key.nr, withCode('ERR_TCPCRYPT_CLOSED'));
  assert.throws(() => SessionSecret.restore(new Uint8Array(31)), withCode('ERR_TCPCRYPT_ARGUMENT'));
});
