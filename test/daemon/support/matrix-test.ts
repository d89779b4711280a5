/** The fidelity matrix at one place, as tests: a program must not be able to tell that its connection is relayed. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { expected } from './differences.js';
import { FAMILIES, type Family, type Findings, observe, openMatrix, probes } from './matrix.js';
import { eventually, type Pair, type Place, skip } from './pair.js';

/** More than that, and a writer whose reader is slow does not feel it. Natively, here, it is about one. */
const MOST_TAKEN_MIB = 40;

export function matrix(place: Place): void {
  describe(`what programs see, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    const native = new Map<Family, Findings>();
    const relayed = new Map<Family, Findings>();
    const lookAt = async (pair: Pair, into: Map<Family, Findings>) => {
      await Promise.all(FAMILIES.map(async (family) => into.set(family, await observe(pair, family))));
    };
    before(async () => {
      const without = await openMatrix('neither end');
      try {
        await lookAt(without, native);
      } finally {
        await without.close();
      }
      pair = await openMatrix(place);
      await lookAt(pair, relayed);
    });
    after(() => pair?.close());

    for (const family of FAMILIES)
      for (const probe of probes())
        test(`${family === 'mapped' ? 'IPv4-mapped' : `IPv${family}`}: ${probe}`, () => {
          const [without, seen] = [native.get(family)?.saw[probe], relayed.get(family)?.saw[probe]];
          assert.ok(without !== undefined && seen !== undefined);
          assert.ok(!JSON.stringify(without).includes('Error('), 'the probe itself works');
          for (const side of ['client', 'server'] as const)
            assert.deepEqual(seen[side], without[side] && expected(without[side], place, probe, side), side);
        });

    test('a writer whose reader is slow is held up', () => {
      for (const { figures } of relayed.values())
        for (const [probe, figure] of Object.entries(figures))
          for (const [what, bytes] of Object.entries(figure))
            assert.ok(bytes < MOST_TAKEN_MIB * 2 ** 20, `${probe}: ${bytes} bytes ${what}`);
    });

    test('every connection between two daemons was encrypted, no other was', () => {
      for (const daemon of [pair.onAlice, pair.onBob]) {
        const lines = daemon?.lines ?? [];
        const wrong = pair.encrypts ? 'plain' : 'secure';
        assert.deepEqual(
          lines.filter(({ event }) => event === wrong),
          [],
        );
        if (pair.encrypts) assert.ok(lines.some(({ event }) => event === 'secure'));
      }
    });

    test('nothing of all this stays in the daemons', async () => {
      for (const daemon of [pair.onAlice, pair.onBob])
        await eventually(async () => {
          if (daemon === undefined) return;
          const { relayed, standIns, held } = await daemon.status();
          assert.deepEqual({ relayed, standIns, held }, { relayed: 0, standIns: 0, held: 0 });
        });
    });
  });
}
