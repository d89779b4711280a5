/** The codec of HELLO, and the choice of what is run. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { choose, encodeHello, type Hello, parseHello } from '#src/auth/hello.js';
import { TcpcryptError } from '#src/errors.js';
import { withCode } from '../support/code.js';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const hello: fc.Arbitrary<Hello> = fc.record({
  role: fc.constantFrom('A' as const, 'B' as const),
  sessionId: bytes(64),
  demand: fc.boolean(),
  entries: fc.uniqueArray(
    fc.record({
      mechanism: fc.nat(0xffff),
      canProve: fc.boolean(),
      canVerify: fc.boolean(),
      hint: bytes(255),
    }),
    { selector: ({ mechanism }) => mechanism, maxLength: 16 },
  ),
});

test('what is encoded is parsed, also with something behind it that a later version may add', () => {
  fc.assert(
    fc.property(hello, bytes(20), (one, more) => {
      const parsed = parseHello(Buffer.concat([encodeHello(one), more]));
      assert.deepEqual(encodeHello(parsed), encodeHello(one));
      assert.deepEqual(
        [parsed.role, parsed.demand, parsed.entries.length],
        [one.role, one.demand, one.entries.length],
      );
    }),
  );
});

test('whatever comes, it is parsed or refused, never anything else', () => {
  fc.assert(
    fc.property(hello, fc.nat(), fc.nat(255), fc.nat(), (one, at, value, end) => {
      const encoded = encodeHello(one);
      encoded[at % encoded.length] = value;
      try {
        parseHello(encoded.subarray(0, end % (encoded.length + 1)));
      } catch (error) {
        assert.ok(error instanceof TcpcryptError);
        assert.match(error.code, /^ERR_TCPCRYPT_AUTH_(MESSAGE|VERSION)$/);
      }
    }),
  );
});

describe('the choice', () => {
  const SHARED = 1;
  const KEY = 2;
  const CERTIFICATE = 3;
  const entry = (mechanism: number, can: string) => ({
    mechanism,
    canProve: can.includes('p'),
    canVerify: can.includes('v'),
    hint: Buffer.alloc(0),
  });
  const end = (role: 'A' | 'B', demand: boolean, ...entries: Hello['entries'][number][]): Hello => ({
    role,
    sessionId: Buffer.alloc(33),
    demand,
    entries,
  });

  test('nobody demands anything', () => {
    assert.deepEqual(choose(end('A', false, entry(KEY, 'pv')), end('B', false, entry(KEY, 'pv'))), []);
  });
  test('A alone: what A prefers among what B can prove', () => {
    const a = end('A', true, entry(CERTIFICATE, 'v'), entry(KEY, 'v'));
    assert.deepEqual(choose(a, end('B', false, entry(KEY, 'p'), entry(CERTIFICATE, 'p'))), [
      { mechanism: CERTIFICATE, provers: ['B'] },
    ]);
    assert.deepEqual(choose(a, end('B', false, entry(CERTIFICATE, 'v'), entry(KEY, 'p'))), [
      { mechanism: KEY, provers: ['B'] },
    ]);
  });
  test('both: B proves first', () => {
    const runs = choose(
      end('A', true, entry(CERTIFICATE, 'v'), entry(KEY, 'p')),
      end('B', true, entry(CERTIFICATE, 'p'), entry(KEY, 'v')),
    );
    assert.deepEqual(runs, [
      { mechanism: CERTIFICATE, provers: ['B'] },
      { mechanism: KEY, provers: ['A'] },
    ]);
  });
  test('a mutual mechanism runs once', () => {
    const offer = entry(SHARED, 'pv');
    assert.deepEqual(choose(end('A', true, offer), end('B', true, offer)), [
      { mechanism: SHARED, provers: ['A', 'B'] },
    ]);
  });
  test('what cannot be met is refused', () => {
    const a = end('A', true, entry(KEY, 'v'));
    for (const b of [
      end('B', false),
      end('B', false, entry(KEY, 'v')),
      end('B', false, entry(CERTIFICATE, 'pv')),
    ]) {
      assert.throws(() => choose(a, b), withCode('ERR_TCPCRYPT_AUTH_NO_MECHANISM'));
    }
  });
});
