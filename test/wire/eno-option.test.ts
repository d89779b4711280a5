import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeEnoContents,
  enoOption,
  isAware,
  isRoleB,
  parseEnoContents,
  type Suboption,
  synTep,
} from '#src/wire/index.js';
import { withCode } from '../support/code.js';
import { fromHex, toHex, vectors } from '../support/vectors.js';

type Row = { readonly name: string; readonly contents: string } & (
  | {
      readonly ok: true;
      readonly global: number;
      readonly global_explicit: boolean;
      readonly b: number;
      readonly a: number;
      readonly vacuous: boolean;
      readonly syn_tep: number | null;
      readonly suboptions: readonly {
        readonly tep: number;
        readonly v: number;
        readonly data: string;
        readonly length_byte: boolean;
      }[];
    }
  | { readonly ok: false; readonly reason: string; readonly at: number }
);

test('ENO-9 to ENO-15: eno-parser.json', async (t) => {
  for (const row of vectors<Row>('eno-parser')) {
    await t.test(row.name, () => {
      const parsed = parseEnoContents(fromHex(row.contents));
      if (!parsed.wellFormed || !row.ok) {
        assert.deepEqual(parsed, {
          wellFormed: row.ok,
          reason: !row.ok && row.reason,
          at: !row.ok && row.at,
        });
        return;
      }
      assert.deepEqual(
        {
          global: parsed.global,
          global_explicit: parsed.globalExplicit,
          b: Number(isRoleB(parsed)),
          a: Number(isAware(parsed)),
          vacuous: parsed.suboptions.length === 0,
          syn_tep: synTep(parsed) ?? null,
          suboptions: parsed.suboptions.map(({ tep, v, data, lengthByte }) => ({
            tep,
            v: Number(v),
            data: toHex(data),
            length_byte: lengthByte,
          })),
        },
        {
          global: row.global,
          global_explicit: row.global_explicit,
          b: row.b,
          a: row.a,
          vacuous: row.vacuous,
          syn_tep: row.syn_tep,
          suboptions: row.suboptions,
        },
      );
    });
  }
});

test('ENO-11: data of a suboption that is not last follow a length byte; the last one saves it', () => {
  const suboption = (tep: number, data: string): Suboption => ({ tep, v: true, data: fromHex(data) });
  const contents = encodeEnoContents({
    global: 1,
    suboptions: [suboption(0x23, 'aabb'), suboption(0x24, 'cc')],
  });
  assert.equal(toHex(contents), '0181a3aabba4cc');
});

test('what the format cannot express is refused', () => {
  const nothing = new Uint8Array();
  const impossible: Suboption[][] = [
    [{ tep: 0x1f, v: false, data: nothing }],
    [{ tep: 0x80, v: false, data: nothing }],
    [{ tep: 0x23, v: false, data: Uint8Array.of(1) }],
    [
      { tep: 0x23, v: true, data: nothing },
      { tep: 0x24, v: false, data: nothing },
    ],
    [
      { tep: 0x23, v: true, data: new Uint8Array(33) },
      { tep: 0x24, v: false, data: nothing },
    ],
    [{ tep: 0x23, v: true, data: new Uint8Array(38) }],
  ];
  for (const suboptions of impossible)
    assert.throws(() => encodeEnoContents({ global: 0, suboptions }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  assert.throws(() => encodeEnoContents({ global: 0x20, suboptions: [] }), withCode('ERR_TCPCRYPT_ARGUMENT'));
  assert.throws(() => enoOption(new Uint8Array(39)), withCode('ERR_TCPCRYPT_ARGUMENT'));
});

const suboption = fc
  .record({
    tep: fc.integer({ min: 0x20, max: 0x7f }),
    v: fc.boolean(),
    data: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  })
  .map((s): Suboption => (s.v ? s : { ...s, data: new Uint8Array() }));

test('property: what was encoded is parsed again', () => {
  const contents = fc.record({
    global: fc.integer({ min: 0, max: 0x1f }),
    suboptions: fc.array(suboption, { maxLength: 3 }),
  });
  fc.assert(
    fc.property(contents, (eno) => {
      const parsed = parseEnoContents(encodeEnoContents(eno));
      assert.ok(parsed.wellFormed);
      assert.equal(parsed.global, eno.global);
      assert.deepEqual(
        parsed.suboptions.map(({ tep, v, data }) => [tep, v, toHex(data)]),
        eno.suboptions.map(({ tep, v, data }) => [tep, v, toHex(data)]),
      );
    }),
  );
});

test('property: arbitrary contents never throw, and the parts never exceed the whole', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (contents) => {
      const parsed = parseEnoContents(contents);
      if (!parsed.wellFormed) return assert.ok(parsed.at < contents.length);
      const used = parsed.suboptions.reduce(
        (sum, { data, lengthByte }) => sum + 1 + Number(lengthByte) + data.length,
        0,
      );
      assert.ok(used <= contents.length);
    }),
    { numRuns: 1000 },
  );
});
