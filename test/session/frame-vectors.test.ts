import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { type AeadFactory, type AeadName, cprf, evpAead, nodeAead } from '#src/crypto/index.js';
import { ByteQueue } from '#src/session/byte-queue.js';
import { type Direction, SessionSecret } from '#src/session/key-schedule.js';
import { Receiver } from '#src/session/receiver.js';
import type { SessionEvent } from '#src/session/session-event.js';
import {
  AEADS,
  type AeadId,
  CONST_KEY_A,
  decodeFrameHeader,
  decodePlaintextHead,
  encodeFrameHeader,
  encodePlaintextHead,
  StreamOffset,
} from '#src/wire/index.js';
import { seal as sealed } from '../support/aead.js';
import { fromHex, toHex, vectors } from '../support/vectors.js';
import {
  type ConnectionVector,
  type FrameVector,
  type SessionVector,
  sessionVectors,
  type TrafficKeyVector,
} from './session-vectors.js';

interface FrameKey {
  readonly aead: AeadId;
  readonly key: string;
  readonly nr: string;
}

/** The fast one, and the one that every platform has. */
function implementations(name: AeadName): [AeadFactory, AeadFactory] {
  const fast = evpAead(name);
  assert.ok(fast);
  return [fast, nodeAead];
}

/** A frame as we would send it, made of the same functions as the sender's. */
function seal(
  { aead, key, nr }: FrameKey,
  offset: bigint,
  contents: { rekey: boolean; fin: boolean; urgent: number | null; data: Uint8Array },
): Uint8Array {
  const head = encodePlaintextHead(contents.fin, contents.urgent ?? undefined);
  const { name, tagLength } = AEADS[aead];
  const header = encodeFrameHeader({
    rekey: contents.rekey,
    clen: head.length + contents.data.length + tagLength,
  });
  const nonce = new StreamOffset(offset).nonce(fromHex(nr));
  const [frame, twin] = implementations(name).map((make) =>
    sealed(make(name, fromHex(key)), nonce, header, [head, contents.data]),
  );
  assert.ok(frame && twin);
  assert.equal(toHex(frame), toHex(twin));
  return frame;
}

function checkSealed(key: FrameKey, frame: FrameVector): void {
  const { offset, rekey, fin, urgent } = frame;
  assert.equal(toHex(new StreamOffset(BigInt(offset)).nonce(fromHex(key.nr))), frame.nonce);
  assert.equal(
    toHex(seal(key, BigInt(offset), { rekey, fin, urgent, data: fromHex(frame.data) })),
    frame.frame,
  );
}

/** What stands in clear, and what stands in the ciphertext: as we write it, and as we read it. */
function checkFields(frame: Omit<FrameVector, 'offset' | 'generation'>): void {
  const { rekey, fin, urgent, control, clen, aad, flags, plaintext, data } = frame;
  const header = fromHex(aad);
  assert.equal(frame.frame.slice(0, 6), aad);
  assert.deepEqual([header[0], frame.frame.length / 2], [control, 3 + clen]);
  assert.deepEqual(decodeFrameHeader(header), { rekey, clen });
  const bytes = fromHex(plaintext);
  const head = decodePlaintextHead(bytes);
  assert.equal(bytes[0], flags);
  assert.deepEqual([head.fin, head.urgent ?? null, toHex(bytes.subarray(head.length))], [fin, urgent, data]);
  if (control > 1 || flags > 3) return; // reserved bits: read, never written
  assert.equal(toHex(encodeFrameHeader({ rekey, clen })), aad);
  assert.equal(toHex(encodePlaintextHead(fin, urgent ?? undefined)) + data, plaintext);
}

/** A receiver of one direction, with the keys of mk[0]. */
function receiverOf(
  row: SessionVector,
  ss: string,
  sn: string,
  direction: Direction,
  offset: number,
  aead: AeadFactory,
): Receiver {
  const masterKey = SessionSecret.restore(fromHex(ss)).masterKey(fromHex(sn));
  return new Receiver({ masterKey, direction, cipher: row.aead, aead }, offset);
}

function checkReceived(receiver: Receiver, frames: readonly FrameVector[]): void {
  const queue = new ByteQueue();
  for (const frame of frames) {
    checkFields(frame);
    queue.push(fromHex(frame.frame));
    const events: SessionEvent[] = [];
    receiver.open(queue, events);
    const expected: SessionEvent[] = [];
    if (frame.rekey) expected.push({ type: 'rekeyed', generation: frame.generation });
    if (frame.data !== '') expected.push({ type: 'data', data: fromHex(frame.data) });
    if (frame.fin) expected.push({ type: 'end' });
    assert.deepEqual(plain(events), plain(expected));
    assert.equal(receiver.generation, frame.generation);
    assert.equal(queue.length, 0);
  }
}

const plain = (events: readonly SessionEvent[]) =>
  events.map((event) => (event.type === 'data' ? toHex(event.data) : event));

function checkConnection(row: SessionVector, ss: string, connection: ConnectionVector): void {
  for (const [direction, keys, frames] of [
    ['ab', connection.k_ab, connection.frames_ab],
    ['ba', connection.k_ba, connection.frames_ba],
  ] as const) {
    for (const frame of frames) {
      const key: TrafficKeyVector | undefined = keys[frame.generation];
      assert.ok(key);
      checkSealed({ aead: row.aead, ...key }, frame);
    }
    const offset = frames[0]?.offset ?? 0;
    for (const aead of implementations(AEADS[row.aead].name))
      checkReceived(receiverOf(row, ss, connection.sn, direction, offset, aead), frames);
  }
}

test('sessions.json: every frame is sealed and opened, fresh and resumed, in all generations', async (t) => {
  for (const row of sessionVectors()) {
    await t.test(row.name, () => {
      checkConnection(row, row.prk, row.fresh);
      for (const resumed of row.resumed) checkConnection(row, row.ss[resumed.index] ?? '', resumed);
    });
  }
});

test('TC-34: sessions.json: frames with reserved bits are accepted', () => {
  for (const row of sessionVectors()) {
    const { frame_ab, frame_ba } = row.fresh.receive_only;
    for (const aead of implementations(AEADS[row.aead].name)) {
      checkReceived(receiverOf(row, row.prk, '', 'ab', frame_ab.offset, aead), [frame_ab]);
      checkReceived(receiverOf(row, row.prk, '', 'ba', frame_ba.offset, aead), [frame_ba]);
    }
  }
});

interface OffsetRow extends Omit<FrameVector, 'offset'> {
  readonly offset: string;
  readonly aead: AeadId;
  readonly mk: string;
  readonly k_ab: TrafficKeyVector;
}

test('frame-offsets.json: nonces up to an offset of 2^64 - 1', async (t) => {
  for (const row of vectors<OffsetRow>('frame-offsets')) {
    await t.test(`offset ${row.offset}, cipher ${row.aead}`, () => {
      const { key, nr } = row.k_ab;
      assert.equal(
        toHex(cprf(fromHex(row.mk), [Uint8Array.of(CONST_KEY_A)], (key + nr).length / 2)),
        key + nr,
      );
      checkFields(row);
      assert.equal(toHex(new StreamOffset(BigInt(row.offset)).nonce(fromHex(nr))), row.nonce);
      const contents = { rekey: row.rekey, fin: row.fin, urgent: row.urgent, data: fromHex(row.data) };
      assert.equal(toHex(seal({ aead: row.aead, key, nr }, BigInt(row.offset), contents)), row.frame);
    });
  }
});

interface LargeRow {
  readonly aead: AeadId;
  readonly k_ba: TrafficKeyVector;
  readonly offset: number;
  readonly data_length: number;
  readonly data_sha256: string;
  readonly clen: number;
  readonly frame_first_32: string;
  readonly frame_last_32: string;
  readonly frame_sha256: string;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('frame-large.json: up to the largest frame (TC-31)', async (t) => {
  for (const row of vectors<LargeRow>('frame-large')) {
    await t.test(`${row.data_length} bytes, cipher ${row.aead}`, () => {
      const data = Uint8Array.from({ length: row.data_length }, (_, i) => i * 7 + row.data_length + row.aead);
      assert.equal(sha256(data), row.data_sha256);
      const contents = { rekey: false, fin: false, urgent: null, data };
      const frame = seal({ aead: row.aead, ...row.k_ba }, BigInt(row.offset), contents);
      assert.equal(frame.length, 3 + row.clen);
      assert.equal(toHex(frame.subarray(0, 32)), row.frame_first_32);
      assert.equal(toHex(frame.subarray(-32)), row.frame_last_32);
      assert.equal(sha256(frame), row.frame_sha256);
    });
  }
});
