/** Urgent data: what the header of TCP says about it is not authentic, and must not touch the stream (RFC 8547 §5). */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import koffi from 'koffi';
import { connect, createServer, type Socket } from '#src/index.js';
import { descriptorOf } from '#src/socket/transport.js';
import { KernelPart, needsRoot } from './kernel-part.js';
import { RawPeer } from './raw-peer.js';

const MSG_OOB = 1;
const send = koffi.load(null).func('int64_t send(int, const void *, size_t, int)');

describe('urgent data', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  /** A frame whose last byte TCP calls urgent, and one after it. */
  async function interrupt(peer: RawPeer, socket: Promise<Socket>): Promise<void> {
    await peer.open();
    const frames = [peer.frames('one '), peer.frames('two')];
    for (const [i, frame] of frames.entries())
      assert.equal(
        Number(send(descriptorOf(peer.tcp), frame, frame.length, i === 0 ? MSG_OOB : 0)),
        frame.length,
      );
    const reader = await socket;
    let heard = '';
    reader.on('data', (data) => {
      heard += data;
      if (heard === 'one two') reader.destroy();
    });
    const error = await new Promise((resolve) => {
      reader.once('error', resolve);
      reader.once('close', () => resolve(undefined));
      setTimeout(() => reader.destroy(new Error(`heard only "${heard}"`)), 5_000).unref();
    });
    peer.tcp.resetAndDestroy();
    assert.equal(error, undefined);
  }

  test('ENO-55: TCP’s URG flag takes no byte out of the stream: server', { timeout: 10_000 }, async () => {
    const server = createServer().listen(0, '127.0.0.1');
    const accepted = once(server, 'connection').then(([socket]) => socket as Socket);
    await interrupt(await RawPeer.connect(server.address()?.port ?? 0), accepted);
    server.close();
  });

  test('ENO-55: TCP’s URG flag takes no byte out of the stream: client', { timeout: 10_000 }, async () => {
    const listener = await RawPeer.listen();
    const socket = connect({ port: listener.port, host: '127.0.0.1' });
    await interrupt(await listener.accepted, Promise.resolve(socket));
    listener.close();
  });
});
