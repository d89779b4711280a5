/** Local users may have as many listeners with ENO as they like: the daemon's are not forgotten for them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { assertEncrypted, assertWorks } from './support/load.js';
import { eventually, Pair, python, skip } from './support/pair.js';

/** More than the kernel part remembers: `eno_listeners` in bpf/eno_state.h. */
const CROWD = 8192 + 1024;

/** By a user without privileges, and in two processes, as each has a limit of its own. */
const LISTENERS = `
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (${CROWD}, ${CROWD}))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
crowd = []
child = os.fork()
for _ in range(${CROWD / 2}):
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, 1037, b'\\x23') # TCP_ENO_RAW
    s.bind(('127.0.0.1', 0))
    s.listen(1)
    crowd.append(s)
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(len(crowd), flush=True)
os.waitpid(child, 0)
`;

describe('more listeners with ENO than are remembered', { skip }, () => {
  let pair: Pair;
  let port = 8300;
  beforeEach(async () => {
    pair = await Pair.open('neither end');
  });
  afterEach(() => pair?.close());

  for (const flags of [[], ['--workers', '2']])
    test(`what comes in is encrypted still (${flags.join(' ') || 'one process'})`, async () => {
      pair.onAlice = await pair.daemon(pair.alice);
      pair.onBob = await pair.daemon(pair.bob, flags);
      const to = ++port;
      const crowd = pair.bob.spawn(...python(LISTENERS), { stdio: ['pipe', 'pipe', 'inherit'] });
      assert.equal(String((await once(crowd.stdout as Readable, 'data'))[0]).trim(), `${CROWD / 2}`);
      await assertWorks(pair, to, 5, 1);
      await assertEncrypted(pair, to, 5);
      crowd.stdin?.end();
      await once(crowd, 'exit');

      // Its own go with it.
      const map = `${pair.kernelPart(pair.bob)}/eno_daemon_listeners`;
      const kept = () =>
        (JSON.parse(pair.bob.enter('bpftool', ['-j', 'map', 'dump', 'pinned', map])) as unknown[]).length;
      const processes = flags.length === 0 ? 1 : 2;
      assert.equal(kept(), 4 * processes);
      await pair.onBob.stop('SIGKILL');
      await eventually(() => assert.equal(kept(), 0));
    });
});
