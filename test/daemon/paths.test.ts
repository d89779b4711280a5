/** What the daemon learns of real paths: what they do to it once, and how soon it asks again. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KNOWN } from '#src/daemon/path-memory.js';
import { Capture } from '#src/lab/capture.js';
import { type CapturedSegment, findOption, isSyn } from '#src/lab/pcap.js';
import { Pair, python, skip } from './support/pair.js';
import { greet } from './support/policies.js';
import { MANY } from './support/probe.js';
import { queued, untilKnownPlain } from './support/queue.js';

const hasEno = ({ options }: CapturedSegment): boolean => findOption(options, 69) !== undefined;

/** What alice sees, and which of her SYNs ask. */
async function ask(pair: Pair, port: number): Promise<{ saw: string; asked: boolean[] }> {
  const capture = await Capture.start(pair.lab, pair.alice);
  const saw = await greet(pair.alice, pair.bob.address4, port);
  return { saw, asked: (await capture.stop()).filter(isSyn).map(hasEno) };
}

describe('a path that lets the option pass and kills what follows, daemon at the client only', {
  skip,
}, () => {
  let pair: Pair;
  before(async () => {
    pair = await Pair.open('the client only');
    pair.kernelPart(pair.bob);
  });
  after(() => pair?.close());

  /** Agrees to encrypt (TCP_ENO_RAW of include/tcp_eno.h), then does what argv[2] says; plain connections are served. */
  const KILLER = `
import socket, struct, sys
listener = socket.socket()
listener.setsockopt(socket.IPPROTO_TCP, 1037, bytes([0x23]))
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('', int(sys.argv[1])))
listener.listen()
while True:
    connection, _ = listener.accept()
    if connection.getsockopt(socket.IPPROTO_TCP, 1039, 96)[0] != 3:
        if connection.recv(100): connection.sendall(b'served')
    elif sys.argv[2] == 'reset':
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif sys.argv[2] == 'garbage': connection.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')
    connection.close()
`;
  for (const [i, how] of (['reset', 'garbage', 'end'] as const).entries())
    test(`${how}: that connection fails, the next ones do not ask`, async () => {
      const port = 7860 + i;
      pair.bob.spawn(...python(KILLER, `${port}`, how), { stdio: 'ignore' });
      await pair.bob.waitForListener(port);
      const first = await ask(pair, port);
      assert.deepEqual(first, { saw: 'ECONNRESET', asked: [true] });
      assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [false] });
      assert.equal((await pair.onAlice?.status())?.outboundKnownPlain, i + 1);
    });
});

describe('an attacker who strips the option, daemons at both ends', { skip }, () => {
  let pair: Pair;
  let port = 7870;
  before(async () => {
    pair = await Pair.open('both ends');
  });
  after(() => pair?.close());
  beforeEach(async () => {
    port++;
    pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'client'), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
    pair.forget();
  });

  const events = (): (string | undefined)[] => (pair.onAlice?.lines ?? []).map(({ event }) => event);

  test('once, from a host that has encrypted before: the next connection is encrypted', async () => {
    assert.equal((await ask(pair, port)).saw, 'answered');
    const undo = pair.lab.router.middlebox({ stripFrom: 'syn' });
    assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [true] });
    undo();
    assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [true] });
    assert.deepEqual(
      events().filter((event) => event !== 'end'),
      ['secure', 'plain', 'secure'],
    );
  });

  test('again and again: it is left in peace for seconds, and then encrypted again', async () => {
    assert.equal((await ask(pair, port)).saw, 'answered');
    const undo = pair.lab.router.middlebox({ stripFrom: 'syn' });
    for (let i = 0; i <= KNOWN.tolerated; i++)
      assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [true] });
    const since = Date.now();
    undo();
    await untilKnownPlain(pair.alice, pair.bob.address4, port);
    const queuedBefore = queued(pair.alice);
    assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [false] });
    assert.equal(queued(pair.alice), queuedBefore);
    await sleep(since + KNOWN.first - Date.now() + 100);
    pair.forget();
    assert.deepEqual(await ask(pair, port), { saw: 'answered', asked: [true] });
    await pair.onAlice?.line(({ event }) => event === 'secure');
  });
});
