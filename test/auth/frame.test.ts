/** The frame of authentication: messages, bounds, negotiation, and what a man in the middle may try with them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { authenticate, type Mechanism, sharedKey } from '#src/auth/index.js';
import { withCode } from '../support/code.js';
import { both, outcomeOf } from './support/outcome.js';
import { message, messagesIn, OTHER_SESSION_ID, onMessages, pair } from './support/pair.js';

const key = Buffer.from('a strong secret of many bytes');
const offer = [sharedKey({ key, id: 'k1' })];
const HELLO = 1;
const AGREE = 2;
const PROOF = 3;

describe('authenticate', () => {
  test('authenticates both ends, and leaves every byte of the application to the application', async () => {
    const { a, b } = pair();
    const done = both({ a, b }, { offer }, { offer });
    assert.deepEqual(await done, [
      { mechanism: 'shared-key', name: 'k1' },
      { mechanism: 'shared-key', name: 'k1' },
    ]);
    a.end('first words');
    const [data] = await once(b, 'data');
    assert.equal(String(data), 'first words');
    await once(b, 'end');
    assert.equal(a.listenerCount('readable') + a.listenerCount('end') + b.listenerCount('readable'), 0);
  });

  test('what the peer sends right behind its authentication is not lost, nor is its end', async () => {
    const { a, b } = pair();
    const ofA = authenticate(a, { offer }).then(() => a.end('at once'));
    await Promise.all([ofA, authenticate(b, { offer })]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const chunks: Buffer[] = [];
    for await (const chunk of b) chunks.push(chunk as Buffer);
    assert.equal(Buffer.concat(chunks).toString(), 'at once');
  });

  test('messages arrive in pieces of one byte', async () => {
    const { a, b } = pair();
    for (const end of [a, b]) {
      end.tamper = (chunk) => {
        for (const byte of chunk.subarray(0, -1)) end.other?.push(Buffer.of(byte));
        return chunk.subarray(-1);
      };
    }
    const [peer] = await both({ a, b }, { offer }, { offer });
    assert.deepEqual(peer, { mechanism: 'shared-key', name: 'k1' });
  });

  test('ENO-63: without a session ID there is nothing to authenticate', async () => {
    const { a } = pair();
    Object.defineProperty(a, 'role', { value: undefined });
    await assert.rejects(authenticate(a, { offer }), withCode('ERR_TCPCRYPT_NO_SESSION'));
  });

  test('ENO-64: a peer that is not application-aware is not spoken to', async () => {
    const { a } = pair();
    a.peerAware = false;
    const heard: Buffer[] = [];
    a.tamper = (chunk) => void heard.push(chunk);
    await assert.rejects(authenticate(a, { offer }), withCode('ERR_TCPCRYPT_AUTH_UNAWARE'));
    assert.equal(heard.length, 0);
    assert.ok(a.wasReset);
  });

  test('ENO-62: what a proof covers is the same at both ends, and another for each role and each session', async () => {
    const seen = new Set<string>();
    const bindings = async (ends = pair()): Promise<void> => {
      const told: Record<'A' | 'B', string[]> = { A: [], B: [] };
      const mechanism: Mechanism = {
        name: 'shared-key',
        canProve: true,
        canVerify: true,
        hint: new Uint8Array(),
        run: async ({ role, binding }) => {
          told[role] = (['A', 'B'] as const).map((prover) => binding(prover).toString('hex'));
          return { mechanism: 'shared-key', name: role };
        },
      };
      await both(ends, { offer: [mechanism] }, { offer: [mechanism] });
      assert.deepEqual(told.A, told.B);
      for (const one of told.A) seen.add(one);
    };
    await bindings();
    assert.equal(seen.size, 2);
    const ends = pair();
    for (const end of [ends.a, ends.b]) Object.defineProperty(end, 'sessionId', { value: OTHER_SESSION_ID });
    await bindings(ends);
    assert.equal(seen.size, 4);
  });

  test('nobody demands anything: both go on, unauthenticated', async () => {
    const none = { offer, require: false };
    assert.deepEqual(await both(pair(), none, none), [undefined, undefined]);
  });

  test('one end alone demands: the mechanism is mutual, so both know', async () => {
    const [ofA, ofB] = await both(pair(), { offer, require: false }, { offer });
    assert.deepEqual([ofA, ofB], Array(2).fill({ mechanism: 'shared-key', name: 'k1' }));
  });

  test('wrong use of the API', async () => {
    const twice = [...offer, ...offer];
    for (const options of [{ offer: [] }, { offer: twice }]) {
      await assert.rejects(authenticate(pair().a, options), withCode('ERR_TCPCRYPT_ARGUMENT'));
    }
    assert.throws(() => sharedKey({ key: Buffer.alloc(15) }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  });

  test('an AbortSignal ends it', async () => {
    const { a } = pair();
    const controller = new AbortController();
    const result = authenticate(a, { offer, signal: controller.signal });
    controller.abort();
    await assert.rejects(result, { name: 'AbortError' });
    assert.ok(a.destroyed);
  });
});

describe('bounds', () => {
  /** A peer that says `bytes`, and then waits. */
  async function against(bytes: Uint8Array, end = false): Promise<unknown> {
    const { a, b } = pair();
    const result = outcomeOf(authenticate(a, { offer, timeout: 100 }));
    if (end) b.end(bytes);
    else b.write(bytes);
    return result;
  }

  test('silence', async () => {
    assert.equal(await against(Buffer.alloc(0)), 'ERR_TCPCRYPT_AUTH_TIMEOUT');
  });
  test('slowness: a byte now and then does not prolong it', async (context) => {
    const { a, b } = pair();
    let type = HELLO;
    const dripping = setInterval(() => {
      b.write(Buffer.of(type));
      type = 0;
    }, 30);
    context.after(() => clearInterval(dripping));
    assert.equal(await outcomeOf(authenticate(a, { offer, timeout: 100 })), 'ERR_TCPCRYPT_AUTH_TIMEOUT');
  });
  test('a HELLO that is too long is refused before it is waited for', async () => {
    assert.equal(await against(Buffer.of(HELLO, 0, 0x10, 1)), 'ERR_TCPCRYPT_AUTH_TOO_LONG');
  });
  test('the end in the middle of a message', async () => {
    assert.equal(await against(Buffer.of(HELLO, 0, 0, 9, 1), true), 'ERR_TCPCRYPT_AUTH_TRUNCATED');
    assert.equal(await against(Buffer.alloc(0), true), 'ERR_TCPCRYPT_AUTH_TRUNCATED');
    assert.equal(await against(Buffer.of(HELLO, 0), true), 'ERR_TCPCRYPT_AUTH_TRUNCATED');
  });
  test('something else than a HELLO, such as HTTP', async () => {
    assert.equal(await against(Buffer.from('HTTP/1.1 400')), 'ERR_TCPCRYPT_AUTH_MESSAGE');
    assert.equal(await against(message(HELLO, Buffer.from('tcAX'))), 'ERR_TCPCRYPT_AUTH_MESSAGE');
  });
  test('a HELLO of version 0', async () => {
    assert.equal(await against(message(HELLO, Buffer.from('tcAU\0'))), 'ERR_TCPCRYPT_AUTH_VERSION');
  });
  test('every truncation of a HELLO is malformed', async () => {
    const { a, b } = pair();
    b.on('error', () => {});
    const result = outcomeOf(authenticate(a, { offer, timeout: 50 }));
    const [said] = await once(b, 'data');
    await result;
    const [hello] = messagesIn(said as Buffer);
    assert.ok(hello !== undefined);
    const asB = Buffer.from(hello.body);
    asB[5] = 'B'.charCodeAt(0);
    for (let length = 0; length < asB.length; length++) {
      assert.equal(await against(message(HELLO, asB.subarray(0, length))), 'ERR_TCPCRYPT_AUTH_MESSAGE');
    }
  });
  test('a refusal reaches the peer as such', async () => {
    const { a, b } = pair();
    const ofA = outcomeOf(authenticate(a, { offer }));
    const ofB = outcomeOf(authenticate(b, { offer: [sharedKey({ keys: () => undefined })] }));
    const errors = await Promise.all([ofA, ofB]);
    assert.ok(errors.includes('ERR_TCPCRYPT_AUTH_PROOF'), String(errors));
    assert.ok(a.wasReset || b.wasReset);
    assert.ok(a.destroyed && b.destroyed);
  });
});

describe('a man in the middle of the messages', () => {
  test('ENO-62: splicing: he forwards between two sessions, and the session IDs differ', async () => {
    const outcome = await both(pair(undefined, OTHER_SESSION_ID), { offer }, { offer });
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_SESSION', 'ERR_TCPCRYPT_AUTH_SESSION']);
  });

  /** A man in the middle who pretends in both HELLOs that the session IDs are equal. */
  function liar(): ReturnType<typeof pair> {
    const ends = pair(undefined, OTHER_SESSION_ID);
    for (const end of [ends.a, ends.b]) {
      end.tamper = onMessages((type, body) => {
        if (type !== HELLO) return body;
        const changed = Buffer.from(body);
        end.other?.sessionId.copy(changed, 8);
        return changed;
      });
    }
    return ends;
  }

  test('ENO-62: he changes the session IDs in the HELLOs', async () => {
    const outcome = await both(liar(), { offer }, { offer });
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_DOWNGRADED', 'ERR_TCPCRYPT_AUTH_DOWNGRADED']);
  });

  test('he changes the AGREE messages, too: now the proofs are wrong', async () => {
    const ends = liar();
    const { labelledHash } = await import('#src/auth/labels.js');
    const seen = new Map<string, Buffer>();
    for (const end of [ends.a, ends.b]) {
      const lie = end.tamper;
      end.tamper = (chunk) => {
        for (const { type, body } of messagesIn(chunk)) {
          if (type === HELLO) seen.set(`${end.role} said`, body);
        }
        const changed = lie(chunk) ?? chunk;
        for (const { type, body } of messagesIn(changed)) {
          if (type === HELLO) seen.set(`${end.role} was heard`, body);
        }
        return onMessages((type, body) => {
          if (type !== AGREE) return body;
          const hellos =
            end.role === 'A'
              ? [seen.get('A was heard'), seen.get('B said')]
              : [seen.get('A said'), seen.get('B was heard')];
          return labelledHash(
            'agree',
            hellos.map((hello) => hello ?? Buffer.alloc(0)),
          );
        })(changed);
      };
    }
    const outcome = await both(ends, { offer }, { offer });
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_PROOF', 'ERR_TCPCRYPT_AUTH_PROOF']);
  });

  test('ENO-62: role confusion: the peer claims our role', async () => {
    const outcome = await both(
      pair(undefined, undefined, 'AA'),
      { offer },
      { offer: [sharedKey({ key, id: 'k2' })] },
    );
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_ROLE', 'ERR_TCPCRYPT_AUTH_ROLE']);
  });

  test('reflection of everything', async () => {
    const { a, b } = pair();
    b.on('data', (chunk: Buffer) => b.write(chunk));
    assert.equal(await outcomeOf(authenticate(a, { offer })), 'ERR_TCPCRYPT_AUTH_REFLECTED');
  });

  test('reflection with the role changed in the HELLO', async () => {
    const { a, b } = pair();
    const { labelledHash } = await import('#src/auth/labels.js');
    b.on('data', (chunk: Buffer) => {
      for (const { type, body } of messagesIn(chunk)) {
        if (type === HELLO) {
          const changed = Buffer.from(body);
          changed[5] = 'B'.charCodeAt(0);
          b.write(message(HELLO, changed));
          b.write(message(AGREE, labelledHash('agree', [body, changed])));
        } else if (type === PROOF) b.write(message(type, body));
      }
    });
    assert.equal(await outcomeOf(authenticate(a, { offer })), 'ERR_TCPCRYPT_AUTH_REFLECTED');
  });

  test('replay of what a genuine peer said on another connection', async () => {
    const recorded: Buffer[] = [];
    const genuine = pair(OTHER_SESSION_ID, OTHER_SESSION_ID);
    genuine.b.tamper = (chunk) => {
      recorded.push(chunk);
      return chunk;
    };
    await both(genuine, { offer }, { offer });
    const [proof] = messagesIn(Buffer.concat(recorded)).filter(({ type }) => type === PROOF);
    assert.ok(proof !== undefined);
    const ends = pair();
    ends.b.tamper = onMessages((type, body) => (type === PROOF ? proof.body : body));
    const [ofA] = await both(ends, { offer }, { offer });
    assert.equal(ofA, 'ERR_TCPCRYPT_AUTH_PROOF');
    // And all of it, from the first byte: its HELLO names the other session.
    const { a, b } = pair();
    b.write(Buffer.concat(recorded));
    assert.equal(await outcomeOf(authenticate(a, { offer })), 'ERR_TCPCRYPT_AUTH_SESSION');
  });

  test('downgrade: he takes the better mechanism out of the offer', async () => {
    const { knownKey, pinnedKeys, rawPublicKey } = await import('#src/auth/index.js');
    const { generateKeyPairSync } = await import('node:crypto');
    const host = generateKeyPairSync('ed25519');
    const strong = knownKey({
      key: host.privateKey,
      trust: pinnedKeys({ host: rawPublicKey(host.publicKey) }),
    });
    const better = { offer: [strong, ...offer] };
    const [undisturbed] = await both(pair(), better, better);
    assert.equal((undisturbed as { mechanism: string }).mechanism, 'known-key');

    const ends = pair();
    for (const end of [ends.a, ends.b]) {
      end.tamper = onMessages((type, body) => {
        if (type !== HELLO) return body;
        const at = 8 + 33; // count, then the first entry of four bytes, without hint
        return Buffer.concat([body.subarray(0, at), Buffer.of(1), body.subarray(at + 1 + 4)]);
      });
    }
    const outcome = await both(ends, better, better);
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_DOWNGRADED', 'ERR_TCPCRYPT_AUTH_DOWNGRADED']);
  });

  test('no mechanism in common', async () => {
    const { knownKey } = await import('#src/auth/index.js');
    const { generateKeyPairSync } = await import('node:crypto');
    const prover = knownKey({ key: generateKeyPairSync('ed25519').privateKey });
    const outcome = await both(pair(), { offer }, { offer: [prover] });
    assert.deepEqual(outcome, ['ERR_TCPCRYPT_AUTH_NO_MECHANISM', 'ERR_TCPCRYPT_AUTH_NO_MECHANISM']);
  });
});
