/** The parser that runs in the kernel, on every row of test/vectors/eno-parser.json. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { BpfObject, testRun } from '#src/kernel/libbpf.js';

interface Row {
  name: string;
  contents: string;
  ok: boolean;
  global: number;
  global_explicit: boolean;
  vacuous: boolean;
  syn_tep: number | null;
  suboptions: { tep: number; v: number; data: string }[];
}

const ETHERNET_HEADER = 14;
const CONTENTS = 39;
const READING = 120;
const { vectors, count } = JSON.parse(readFileSync('test/vectors/eno-parser.json', 'utf8')) as {
  vectors: Row[];
  count: number;
};
const object = BpfObject.load(readFileSync(new URL('../../bpf/eno_vectors.bpf.o', import.meta.url)));
after(() => object.close());
const [program] = object.programs();

/** Runs `contents` through eno_read(); undefined when ill-formed. Offsets: struct eno_reading. */
function read(contents: Buffer) {
  assert.ok(program !== undefined);
  const packet = Buffer.alloc(ETHERNET_HEADER + CONTENTS + READING);
  packet[ETHERNET_HEADER] = contents.length;
  contents.copy(packet, ETHERNET_HEADER + 1);
  const { result, packet: out } = testRun(program.fd, packet);
  if (result === 0) return undefined;
  assert.equal(result, 1);
  const reading = out.subarray(ETHERNET_HEADER + CONTENTS);
  const suboptions: Row['suboptions'] = [];
  for (let at = 0; at < contents.length; at++) {
    const byte = reading.readUInt8(40 + at);
    const length = reading.readUInt8(78 + at);
    const data = contents.subarray(at + 1, at + 1 + length).toString('hex');
    if (byte !== 0) suboptions.push({ tep: byte & 0x7f, v: byte >> 7, data });
  }
  return {
    globals: reading.readUInt8(0),
    count: reading.readUInt8(1),
    global: reading.readUInt8(2),
    lastTep: reading.readUInt8(3),
    offered: set(reading.subarray(8, 24)),
    repeated: set(reading.subarray(24, 40)),
    suboptions,
  };
}

const set = (bits: Buffer): number[] =>
  Array.from({ length: 128 }, (_, i) => i).filter((i) => (bits.readUInt8(i >> 3) >> (i & 7)) & 1);

test(`ENO-9 to ENO-15: the kernel reads all ${count} options of the test vectors as they say`, () => {
  assert.equal(vectors.length, count);
  for (const row of vectors) {
    const reading = read(Buffer.from(row.contents, 'hex'));
    if (!row.ok) {
      assert.equal(reading, undefined, row.name);
      continue;
    }
    assert.ok(reading !== undefined, row.name);
    const teps = row.suboptions.map(({ tep }) => tep);
    assert.deepEqual(
      reading.suboptions,
      row.suboptions.map(({ tep, v, data }) => ({ tep, v, data })),
      row.name,
    );
    assert.equal(reading.global, row.global, row.name);
    assert.equal(reading.globals > 0, row.global_explicit, row.name);
    assert.equal(reading.count === 0, row.vacuous, row.name);
    assert.equal(reading.lastTep, row.syn_tep ?? 0, row.name);
    assert.deepEqual(
      reading.offered,
      [...new Set(teps)].sort((a, b) => a - b),
      row.name,
    );
    assert.deepEqual(
      reading.repeated,
      [...new Set(teps.filter((tep, i) => teps.indexOf(tep) !== i))].sort((a, b) => a - b),
      row.name,
    );
  }
});

test('every single byte, and every pair of bytes, is read or refused by the rules of RFC 8547 §4.1', () => {
  for (let a = 0; a < 256; a++) {
    assert.equal(read(Buffer.of(a)) === undefined, a >= 0x80 && a <= 0x9f, `${a}`);
    for (let b = 0; b < 256; b++) {
      const illFormed = (a >= 0x80 && a <= 0x9f) || (a < 0x80 && b >= 0x80 && b <= 0x9f);
      assert.equal(read(Buffer.of(a, b)) === undefined, illFormed, `${a} ${b}`);
    }
  }
});
