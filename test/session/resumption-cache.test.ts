import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Announcement,
  LOOK_AHEAD,
  type ResumableSession,
  type ResumptionAttempt,
  ResumptionCache,
  type ResumptionName,
  resumptionHalves,
} from '#src/session/index.js';
import { toHex } from '../support/vectors.js';

let serial = 0;
/** One end's, or the other end's, first session after a key exchange. */
const session = (originalRole: 'A' | 'B' = 'A', number = ++serial): ResumableSession => ({
  tep: 0x23,
  cipher: 0x0001,
  originalRole,
  index: 1,
  secret: createHash('sha256').update(`${number}`).digest(),
});
const ANY = { teps: [0x23, 0x24], ciphers: [0x0001] } as const;
const nameFor = (attempt: ResumptionAttempt): ResumptionName => ({
  tep: attempt.session.tep,
  peerHalf: resumptionHalves(attempt.session).own,
});

/** A kernel: SYNs take what was announced. */
class Kernel {
  readonly known = new Map<string, Announcement>();
  most = 0;
  announce(sessions: readonly Announcement[]): void {
    for (const one of sessions) {
      assert.ok(!this.known.has(toHex(one.peerHalf)), 'announced twice');
      this.known.set(toHex(one.peerHalf), one);
    }
    this.most = Math.max(this.most, this.known.size);
  }
  withdraw({ peerHalf }: ResumptionName): boolean {
    return this.known.delete(toHex(peerHalf));
  }
  /** A SYN arrives. */
  syn({ peerHalf }: ResumptionName): boolean {
    return this.known.delete(toHex(peerHalf));
  }
}

test('TC-26, TC-27: every attempt takes the lowest index that is left, and a secret comes out once', () => {
  for (const announcer of [undefined, new Kernel()]) {
    const cache = new ResumptionCache();
    if (announcer !== undefined) cache.attach(announcer); // so it knows the later ones as well
    cache.keep('peer', session(), 0);
    const secrets = new Set<string>();
    for (let index = 1; index <= LOOK_AHEAD; index++) {
      const attempt = cache.open(['peer'], ANY, 0);
      assert.equal(attempt?.session.index, index);
      secrets.add(toHex(attempt.session.secret));
    }
    assert.equal(secrets.size, LOOK_AHEAD);
    assert.equal(cache.open(['peer'], ANY, 0), undefined, 'the peer would not look so far ahead');
  }
});

test('an attempt that succeeded, also late, lets the chain go on; one that was refused ends it', () => {
  const cache = new ResumptionCache();
  cache.keep('peer', session(), 0);
  const attempts = Array.from({ length: LOOK_AHEAD }, () => cache.open(['peer'], ANY, 0));
  const [first, second] = attempts;
  assert.ok(first && second);
  cache.confirm(second);
  cache.refuse(first, 0); // the peer saw the second SYN first
  const next = cache.open(['peer'], ANY, 0);
  assert.equal(next?.session.index, LOOK_AHEAD + 1);
  cache.refuse(next, 0);
  assert.equal(cache.size, 0);
});

test('chains of a peer are used in turn; other peers’ and unacceptable ones never', () => {
  const cache = new ResumptionCache();
  for (let i = 0; i < 3; i++) cache.keep('peer', session(), 0);
  const chains = Array.from({ length: 6 }, () => cache.open(['peer'], ANY, 0)?.chain);
  assert.equal(new Set(chains).size, 3);
  assert.deepEqual(chains.slice(0, 3), chains.slice(3));
  assert.equal(cache.open(['other'], ANY, 0), undefined);
  assert.equal(cache.open(['peer'], { ...ANY, teps: [0x24] }, 0), undefined);
  assert.equal(cache.open(['peer'], { ...ANY, ciphers: [0x0010] }, 0), undefined);
  assert.equal(cache.open(['other', 'peer'], ANY, 0)?.session.index, 3);
});

test('bounded: the oldest chains make room, in all and per peer; a lifetime erases the rest', () => {
  const cache = new ResumptionCache({ limit: 5, limitPerPeer: 2, lifetime: 100 });
  const kept = Array.from({ length: 8 }, () => session());
  kept.slice(0, 4).forEach((one, i) => {
    cache.keep(`peer ${i % 2}`, one, i);
  });
  assert.equal(cache.size, 4);
  kept.slice(4).forEach((one, i) => {
    cache.keep('peer 0', one, 10 + i);
  });
  assert.equal(cache.size, 4);
  for (const one of kept.slice(0, 1))
    assert.ok(
      one.secret.every((byte) => byte === 0),
      'erased',
    );
  for (let i = 0; i < 8; i++) cache.keep(`host ${i}`, session(), 20);
  assert.equal(cache.size, 5);
  assert.equal(cache.expire(119), 120);
  assert.equal(cache.expire(120), undefined);
  assert.equal(cache.size, 0);
  assert.equal(cache.open(['host 7'], ANY, 120), undefined);
});

test('TC-25: an attempt leaves nothing in the cache from which its secret, or an earlier one, follows', () => {
  const cache = new ResumptionCache();
  const first = session();
  const copy = toHex(first.secret);
  cache.keep('peer', first, 0);
  const attempt = cache.open(['peer'], ANY, 0);
  assert.equal(attempt?.session.secret, first.secret, 'handed out, not copied');
  assert.equal(toHex(attempt.session.secret), copy);
});

test('TC-18: a passive opener recognises so many indices ahead, and earlier ones no more (TC-25)', () => {
  const kernel = new Kernel();
  const passive = new ResumptionCache();
  passive.attach(kernel);
  const active = new ResumptionCache();
  passive.keep('client', session('B', 1), 0);
  active.keep('server', session('A', 1), 0);
  assert.equal(kernel.known.size, LOOK_AHEAD);
  const [one, two, three] = Array.from({ length: 3 }, () => active.open(['server'], ANY, 0));
  assert.ok(one && two && three);
  assert.ok(kernel.syn(nameFor(two)));
  const answered = passive.answer(nameFor(two), 0);
  assert.equal(answered?.session.index, 2);
  assert.deepEqual(answered.session.secret, two.session.secret);
  assert.equal(kernel.syn(nameFor(one)), false, 'overtaken');
  assert.ok(kernel.syn(nameFor(three)));
  assert.equal(passive.answer(nameFor(three), 0)?.session.index, 3);
  assert.equal(passive.answer(nameFor(three), 0), undefined, 'once');
  assert.equal(kernel.known.size, LOOK_AHEAD);
});

test('what a SYN has taken is kept for its connection, whatever happens to the chain meanwhile, and then erased', () => {
  for (const fate of ['overtaken', 'flushed', 'opened', 'never comes'] as const) {
    const kernel = new Kernel();
    const passive = new ResumptionCache();
    passive.attach(kernel);
    const active = new ResumptionCache();
    passive.keep('client', session('B', 1), 0);
    active.keep('server', session('A', 1), 0);
    const [one, two] = [active.open(['server'], ANY, 0), active.open(['server'], ANY, 0)];
    assert.ok(one && two);
    assert.ok(kernel.syn(nameFor(one)));
    if (fate === 'overtaken') {
      assert.ok(kernel.syn(nameFor(two)));
      assert.ok(passive.answer(nameFor(two), 0));
    } else if (fate === 'flushed') passive.flush(0);
    else if (fate === 'opened') assert.equal(passive.open(['client'], ANY, 0)?.session.index, 2);
    else {
      passive.flush(0);
      assert.ok((passive.expire(0) ?? 0) > 0);
      passive.expire(600_000);
    }
    const answered = passive.answer(nameFor(one), 600_000 * Number(fate === 'never comes'));
    if (fate === 'never comes') assert.equal(answered, undefined);
    else assert.deepEqual(answered?.session.secret, one.session.secret, fate);
    if (fate === 'flushed') assert.equal(passive.size, 0);
  }
});

test('TC-27: two ends that open at random, with SYNs lost, delayed and refused: no secret serves two connections', () => {
  const step = fc.record({
    from: fc.nat(1),
    fate: fc.constantFrom('arrives', 'arrives', 'arrives', 'lost', 'delayed', 'replayed'),
    fresh: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kernels = [new Kernel(), new Kernel()];
      const ends = kernels.map((kernel) => {
        const cache = new ResumptionCache({ limitPerPeer: 3 });
        cache.attach(kernel);
        return cache;
      });
      const used = new Map<string, number>();
      const use = (attempt: ResumptionAttempt): void => {
        const key = toHex(attempt.session.secret);
        used.set(key, (used.get(key) ?? 0) + 1);
        assert.ok((used.get(key) ?? 0) <= 2, 'one connection has two ends');
      };
      const late: (() => void)[] = [];
      for (const [now, { from, fate, fresh }] of steps.entries()) {
        const [opener, kernel, other] = [ends[from], kernels[1 - from], ends[1 - from]];
        assert.ok(opener && kernel && other);
        const attempt = fresh ? undefined : opener.open(['other'], ANY, now);
        if (attempt === undefined) {
          const number = ++serial;
          opener.keep('other', session('A', number), now);
          other.keep('other', session('B', number), now);
          continue;
        }
        const arrive = (): void => {
          if (!kernel.syn(nameFor(attempt))) {
            opener.refuse(attempt, now);
            return;
          }
          const accept = (): void => {
            const answered = other.answer(nameFor(attempt), now);
            assert.ok(answered, 'agreed to, so it must be there');
            assert.deepEqual(answered.session.secret, attempt.session.secret);
            use(answered);
          };
          opener.confirm(attempt);
          use(attempt);
          if (fate === 'delayed') late.push(accept);
          else accept();
          if (fate === 'replayed') assert.equal(kernel.syn(nameFor(attempt)), false);
        };
        if (fate === 'delayed') late.push(arrive);
        else if (fate !== 'lost') arrive();
        if (late.length > 3) late.shift()?.();
      }
      for (const accept of late) accept();
      for (const kernel of kernels) assert.ok(kernel.most <= 3 * LOOK_AHEAD + LOOK_AHEAD, `${kernel.most}`);
    }),
    { numRuns: 300 },
  );
});
