/** What somebody who can read and change every message may try, with every mechanism. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { encodeHello, parseHello } from '#src/auth/hello.js';
import { type Exchange, type Mechanism, sharedKey } from '#src/auth/index.js';
import { labelledHash } from '#src/auth/labels.js';
import { corrected } from './support/man-in-the-middle.js';
import { both, type Outcome } from './support/outcome.js';
import {
  type End,
  message,
  messagesIn,
  OTHER_SESSION_ID,
  onMessages,
  type Pair,
  pair,
  SESSION_ID,
} from './support/pair.js';
import { makeMaterial, SETTING_NAMES, settingOf } from './support/settings.js';

const [HELLO, AGREE, PROOF] = [1, 2, 3];
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-auth-'));
const material = await makeMaterial();
after(() => rmSync(directory, { recursive: true }));

const WRONG = /^ERR_TCPCRYPT_AUTH_(PROOF|BATCH|SHARE)$/;

/** Nobody was authenticated; the outcomes in words. */
function refused(outcomes: readonly Outcome[]): string[] {
  for (const outcome of outcomes) assert.equal(typeof outcome, 'string', JSON.stringify(outcome));
  return outcomes.map(String);
}

for (const name of SETTING_NAMES)
  describe(name, () => {
    const { client, server } = settingOf(name, material, join(directory, 'known'));
    const run = (ends: Pair, ofClient: readonly Mechanism[] = [client], ofServer = [server]) =>
      both(ends, { offer: ofClient, timeout: 10_000 }, { offer: ofServer, timeout: 10_000 });

    test('nobody does anything: both are authenticated', async () => {
      for (const outcome of await run(pair())) assert.equal(typeof outcome, 'object', String(outcome));
    });

    /** All that was said on a genuine connection, by role. */
    async function recording(): Promise<{ readonly A: Buffer[]; readonly B: Buffer[] }> {
      const said = { A: [] as Buffer[], B: [] as Buffer[] };
      const ends = pair(OTHER_SESSION_ID, OTHER_SESSION_ID);
      for (const end of [ends.a, ends.b])
        end.tamper = onMessages((type, body) => {
          if (type === PROOF) said[end.role].push(Buffer.from(body));
          return body;
        });
      await run(ends);
      return said;
    }

    for (const victim of ['A', 'B'] as const)
      test(`replay, to host ${victim}: the peer's proofs of another connection`, async () => {
        const recorded = await recording();
        const ends = pair();
        const replayed = victim === 'A' ? ends.b : ends.a;
        const proofs = recorded[replayed.role];
        assert.ok(proofs.length > 0);
        replayed.tamper = onMessages((type, body) => (type === PROOF ? proofs.shift() : body));
        // In a password exchange it may be the other end that notices first: it was given an answer to something else.
        const outcomes = refused(await run(ends));
        assert.ok(
          outcomes.some((outcome) => WRONG.test(outcome)),
          String(outcomes),
        );
      });

    test('reflection: each gets its own proofs back', async () => {
      const ends = pair();
      for (const end of [ends.a, ends.b])
        end.tamper = (chunk) => {
          const [own, passed] = [[] as Buffer[], [] as Buffer[]];
          for (const { type, body } of messagesIn(chunk))
            (type === PROOF ? own : passed).push(message(type, body));
          if (own.length > 0) setImmediate(() => end.push(Buffer.concat(own)));
          return passed.length === 0 ? undefined : Buffer.concat(passed);
        };
      const outcomes = refused(await run(ends));
      assert.ok(outcomes.includes('ERR_TCPCRYPT_AUTH_REFLECTED'), String(outcomes));
    });

    test('role confusion: a proof that was made for the other role', async () => {
      const other = { A: 'B', B: 'A' } as const;
      const confused: Mechanism = {
        ...server,
        run: (exchange: Exchange) =>
          server.run({
            ...exchange,
            // In SPAKE2+ who has the record is the verifier, whatever its role: it covers both roles' bindings.
            ...(name === 'spake2plus'
              ? { binding: (prover) => exchange.binding(other[prover]) }
              : { role: other[exchange.role] }),
          }),
      };
      const outcomes = refused(await run(pair(), [client], [confused]));
      // With one key at both ends the proof for the other role is the other's own.
      assert.ok(
        outcomes.some((outcome) => WRONG.test(outcome) || outcome === 'ERR_TCPCRYPT_AUTH_REFLECTED'),
        String(outcomes),
      );
    });

    test('splicing: two sessions, their IDs corrected in all that can be corrected', async () => {
      const outcomes = refused(await run(pair(SESSION_ID, OTHER_SESSION_ID)));
      assert.deepEqual(outcomes, Array(2).fill('ERR_TCPCRYPT_AUTH_SESSION'));
      const ends = pair(SESSION_ID, OTHER_SESSION_ID);
      const change = corrected(true);
      const ids = [SESSION_ID, OTHER_SESSION_ID];
      ends.a.tamper = (chunk) => change(chunk, 'client', ids);
      ends.b.tamper = (chunk) => change(chunk, 'server', ids);
      const later = refused(await run(ends));
      assert.ok(
        later.some((outcome) => WRONG.test(outcome)),
        String(later),
      );
    });

    /** Takes the better mechanism out of what each end hears of the other's offer. */
    function downgraded(ends: Pair, better: number, agree: boolean): void {
      const [said, heard] = [new Map<string, Buffer>(), new Map<string, Buffer>()];
      const without = (end: End, body: Buffer): Buffer => {
        const hello = parseHello(body);
        const entries = hello.entries.filter(({ mechanism }) => mechanism !== better);
        assert.equal(entries.length, hello.entries.length - 1);
        const changed = encodeHello({ ...hello, entries });
        said.set(end.role, body);
        heard.set(end.role, changed);
        return changed;
      };
      for (const end of [ends.a, ends.b])
        end.tamper = onMessages((type, body) => {
          if (type === HELLO) return without(end, body);
          if (type !== AGREE || !agree) return body;
          // What the receiver computes: of itself what it said, of the other what it heard.
          const view = (role: string) => (role === end.role ? heard : said).get(role) ?? Buffer.alloc(0);
          return labelledHash('agree', [view('A'), view('B')]);
        });
    }

    test('downgrade to a weaker mechanism that both offer as well', async () => {
      const key = Buffer.from('a secret that has become known');
      const weak = sharedKey({ key });
      const isShared = client.name === 'shared-key';
      const strong = settingOf(isShared ? 'known-key, pinned' : name, material, join(directory, 'known'));
      const offers = [
        [strong.client, isShared ? client : weak],
        [strong.server, isShared ? server : weak],
      ] as const;
      const undisturbed = await run(pair(), offers[0], [...offers[1]]);
      assert.equal((undisturbed[0] as { mechanism: string }).mechanism, strong.client.name);
      const number = { 'shared-key': 1, 'known-key': 2, certificate: 3, cpace: 4, spake2plus: 5 }[
        strong.client.name
      ];
      for (const agree of [false, true]) {
        const ends = pair();
        downgraded(ends, number, agree);
        const outcomes = refused(await run(ends, offers[0], [...offers[1]]));
        if (!agree) assert.deepEqual(outcomes, Array(2).fill('ERR_TCPCRYPT_AUTH_DOWNGRADED'));
        else
          assert.ok(
            outcomes.every((outcome) => outcome === 'ERR_TCPCRYPT_AUTH_PROOF'),
            String(outcomes),
          );
      }
    });
  });
