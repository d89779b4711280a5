/** Resumption by a listener: the kernel's part of RFC 8548 §3.5, between real sockets over loopback. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import {
  type EnoOffer,
  enoOutcome,
  openEnoSocket,
  publishSessionId,
  TCP_ENO,
} from '#src/kernel/eno-socket.js';
import { close, EINVAL, EISCONN, IPPROTO_TCP, tryGetsockopt, trySetsockopt } from '#src/kernel/libc.js';
import { type ResumableEntry, ResumptionGroup } from '#src/kernel/resumption-group.js';
import { dial, fdOf, hex, lab, listen, pair, shell } from './lab.js';

const place = lab();
const group = ResumptionGroup.open();
const ENOENT = 2;
const EEXIST = 17;

const entry = (more: Partial<ResumableEntry> = {}): ResumableEntry => ({
  tep: 0x23,
  peerHalf: randomBytes(9),
  ownHalf: randomBytes(9),
  nonce: randomBytes(8),
  classes: 1,
  ...more,
});

/** A SYN that resumes, as seen by who completes it. */
const resuming = ({ tep, peerHalf, ownHalf }: ResumableEntry, nonce = randomBytes(8)): EnoOffer => ({
  contents: Buffer.concat([Uint8Array.of(tep | 0x80), peerHalf, nonce]),
  expect: Buffer.concat([Uint8Array.of(tep | 0x80), ownHalf]),
});
const acceptor = (contents = '0123', classes = 1): EnoOffer => ({
  contents: hex(contents),
  resumeGroup: group.membership(classes),
});

/** Contents of the SYN-ACK's option, or why there was none; both ends agree about it. */
async function answer(offer: EnoOffer, listener: EnoOffer): Promise<string> {
  const ends = await pair(offer, listener);
  const client = enoOutcome(fdOf(ends.client));
  const server = enoOutcome(fdOf(ends.server));
  ends.close();
  if (client.result === 'plain') return client.reason;
  assert.ok(server.result === 'encrypt');
  assert.deepEqual(client.transcript, server.transcript);
  assert.deepEqual([client.role, server.role], ['A', 'B']);
  return Buffer.from(client.transcript.subarray(4 + offer.contents.length)).toString('hex');
}

test('TC-18: a known half is answered with the other half and a nonce of 7 bytes, next to timestamps', async () => {
  const session = entry();
  group.add([session]);
  const contents = await answer(resuming(session), acceptor());
  assert.equal(contents.slice(0, 22), `01a3${Buffer.from(session.ownHalf).toString('hex')}`);
  assert.equal(contents.length, 2 * (2 + 9 + 7));
});

test('TC-15: the nonce is not the prepared one alone: the time of the answer is mixed in', async () => {
  const nonces = new Set<string>();
  for (let i = 0; i < 3; i++) {
    const session = entry({ nonce: new Uint8Array(8) });
    group.add([session]);
    nonces.add((await answer(resuming(session), acceptor())).slice(22));
  }
  assert.equal(nonces.size, 3);
});

test('TC-16: a shorter nonce is sent as it is', async () => {
  for (const length of [0, 3, 7]) {
    const session = entry({ nonce: randomBytes(length) });
    group.add([session]);
    assert.equal((await answer(resuming(session), acceptor())).length, 2 * (2 + 9 + length));
  }
});

test('TC-27: one secret secures one connection: the same half again is answered with a fresh exchange', async () => {
  const session = entry();
  group.add([session]);
  assert.match(await answer(resuming(session), acceptor()), /^01a3/);
  for (let i = 0; i < 3; i++) assert.equal(await answer(resuming(session), acceptor()), '0123');
  assert.equal(group.take(0x23, session.peerHalf), false);
});

test('TC-27: what user space has taken is not resumed; it gets each entry once', async () => {
  const session = entry();
  group.add([session]);
  assert.equal(group.take(0x23, session.peerHalf), true);
  assert.equal(group.take(0x23, session.peerHalf), false);
  assert.equal(await answer(resuming(session), acceptor()), '0123');
});

test('TC-27: of 40 SYNs at once with the same half one is resumed', async () => {
  const session = entry();
  group.add([session]);
  const { server, port, accept } = await listen(acceptor());
  const clients = await Promise.all(Array.from({ length: 40 }, () => dial(port, resuming(session))));
  const answers = clients.map((client) => {
    const outcome = enoOutcome(fdOf(client));
    return outcome.result === 'encrypt' ? outcome.transcript.at(23) : outcome.reason;
  });
  assert.equal(answers.filter((tep) => tep === 0xa3).length, 1, String(answers));
  assert.equal(answers.filter((tep) => tep === 0x23).length, 39);
  for (const _ of clients) (await accept()).destroy();
  for (const client of clients) client.destroy();
  server.close();
});

test('TC-18, TC-19, TC-20: an unknown half, another TEP, other lengths: a fresh exchange with the same TEP', async () => {
  const session = entry();
  group.add([session]);
  assert.equal(await answer(resuming(entry()), acceptor()), '0123');
  const otherTep = resuming({ ...session, tep: 0x21 });
  assert.equal(await answer(otherTep, acceptor('0121')), '0121');
  for (const data of ['', '00', session.peerHalf.subarray(0, 8)]) {
    const contents = Buffer.concat([hex('a3'), typeof data === 'string' ? hex(data) : data]);
    assert.equal(await answer({ contents }, acceptor()), '0123');
  }
  assert.equal(group.take(0x23, session.peerHalf), true, 'still there');
});

test('TC-18: a session of a TEP, or class, that the listener does not accept is not resumed', async () => {
  const session = entry({ classes: 2 });
  group.add([session]);
  const offer = resuming(session);
  const both = { ...offer, contents: Buffer.concat([hex('21'), offer.contents]).subarray(0, 18) };
  assert.equal(await answer(both, acceptor('0121', 3)), '0121');
  assert.equal(await answer(offer, acceptor('0123', 1)), '0123');
  assert.match(await answer(offer, acceptor('0123', 6)), /^01a3/);
});

test('sessions of one group are unknown to the listeners of another one, and to those without', async () => {
  const session = entry();
  group.add([session]);
  const other = ResumptionGroup.open();
  assert.equal(await answer(resuming(session), { contents: hex('0123') }), '0123');
  const foreign = { contents: hex('0123'), resumeGroup: other.membership(1) };
  assert.equal(await answer(resuming(session), foreign), '0123');
  assert.equal(other.take(0x23, session.peerHalf), false);
  other.close();
  assert.match(await answer(resuming(session), acceptor()), /^01a3/);
});

test('TC-21: a SYN-ACK with the wrong half is ignored: plain TCP', async () => {
  const session = entry();
  group.add([session]);
  const offer = { ...resuming(session), expect: hex(`a3${'00'.repeat(9)}`) };
  assert.equal(await answer(offer, acceptor()), 'ERR_TCPCRYPT_ENO_NO_TEP');
});

test('ENO-56: the session ID of a resumed connection begins with the TEP byte, v bit included', async () => {
  const session = entry();
  group.add([session]);
  const ends = await pair(resuming(session), acceptor());
  const id = Buffer.alloc(33, 7);
  id[0] = 0x23;
  assert.throws(() => publishSessionId(fdOf(ends.server), id));
  id[0] = 0xa3;
  publishSessionId(fdOf(ends.server), id);
  assert.deepEqual(tryGetsockopt(fdOf(ends.server), IPPROTO_TCP, TCP_ENO.SESSID, 64), id);
  ends.close();
});

test('the group of a listener is fixed by listen(2), unknown to accepted sockets, and cannot be read', async () => {
  const { server, port, accept } = await listen(acceptor());
  const set = (fd: number, name: number, value: Uint8Array) => trySetsockopt(fd, IPPROTO_TCP, name, value);
  assert.equal(set(fdOf(server), TCP_ENO.RESUME_GROUP, group.membership(1)), -EISCONN);
  assert.equal(typeof tryGetsockopt(fdOf(server), IPPROTO_TCP, TCP_ENO.RESUME_GROUP, 64), 'number');
  const client = await dial(port);
  const accepted = await accept();
  assert.equal(set(fdOf(accepted), TCP_ENO.RESUME_TAKE, Buffer.alloc(10)), -EINVAL);
  assert.equal(set(fdOf(server), TCP_ENO.RESUME_TAKE, Buffer.alloc(10)), -ENOENT);
  for (const length of [0, 31, 33, 9 * 32])
    assert.equal(set(fdOf(server), TCP_ENO.RESUMABLE, Buffer.alloc(length)), -EINVAL, `${length}`);
  const raw = Buffer.alloc(32);
  raw[0] = 0x23;
  assert.equal(set(fdOf(server), TCP_ENO.RESUMABLE, raw), 0);
  assert.equal(set(fdOf(server), TCP_ENO.RESUMABLE, raw), -EEXIST);
  raw[0] = 0x25;
  assert.equal(set(fdOf(server), TCP_ENO.RESUMABLE, raw), -EINVAL);
  const without = openEnoSocket(4, { contents: hex('23') });
  assert.equal(set(without, TCP_ENO.RESUMABLE, raw), -EINVAL);
  close(without);
  client.destroy();
  accepted.destroy();
  server.close();
});

test('memory is bounded: the oldest sessions make room for new ones', () => {
  const first = entry();
  group.add([first]);
  for (let i = 0; i < 36_000; i += 8) group.add(Array.from({ length: 8 }, () => entry()));
  const dump = shell(`bpftool map dump pinned ${place.pins}/eno_resumable | grep -c '"key"' || true`);
  assert.ok(Number(dump) <= 32_768, dump);
  assert.equal(group.take(0x23, first.peerHalf), false);
});
