/** Destinations that are known to be plain: the kernel lets SYNs to there pass, and asks the daemon where it must. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { NEW } from '#src/daemon/path-memory.js';
import { TCP_ENO } from '#src/kernel/eno-socket.js';
import { KNOWN_PLAIN_SETS, POLICY_TABLE } from '#src/kernel/policy-rules.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { greet, policyFile } from './support/policies.js';
import { MANY } from './support/probe.js';
import { knownPlain, queued, untilKnownPlain } from './support/queue.js';
import { rulesOf } from './support/rules.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const NOBODY = 65_534;
const POLICY = `[[rule]]
action = "private"
user = "nobody"
`;

describe('a destination that is known to be plain, daemon at the client only', { skip }, () => {
  let pair: Pair;
  let pristine: string;
  let policy: string;
  let port = 7950;
  before(async () => {
    pair = await Pair.open('neither end');
    pristine = rulesOf(pair.alice);
    policy = policyFile(pair.lab, POLICY);
    pair.onAlice = await pair.daemon(pair.alice, ['--policy', policy]);
  });
  after(() => pair?.close());
  beforeEach(async () => {
    port++;
    pair.bob.spawn(...python(MANY, 'serve', `${port}`, 'client', '6'), { stdio: 'ignore' });
    await pair.bob.waitForListener(port);
  });

  const tcpcrypt = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await pair.alice.run(process.execPath, [main, ...args]);
    assert.equal(code, 0, stderr);
  };
  const connect = async (address = pair.bob.address4): Promise<void> =>
    assert.equal(await greet(pair.alice, address, port), 'answered');
  /** The first contact; the kernel knows of it when this resolves. */
  const learn = async (address = pair.bob.address4): Promise<void> => {
    await connect(address);
    await untilKnownPlain(pair.alice, address, port);
  };
  /** How many SYNs the daemon was asked about meanwhile. */
  const asked = async (during: () => Promise<unknown>): Promise<number> => {
    const before = queued(pair.alice);
    await during();
    return queued(pair.alice) - before;
  };

  test('IPv4 and IPv6: after the first contact no SYN meets the daemon, for as long as it is left in peace', async () => {
    for (const address of [pair.bob.address4, pair.bob.address6]) {
      assert.equal(await asked(() => learn(address)), 1);
      const seconds = knownPlain(pair.alice).get(`${address} . ${port}`) ?? 0;
      assert.ok(seconds <= NEW.first / 1000 && seconds > NEW.first / 1000 - 10, `${seconds} s`);
      const passed = Number((await pair.onAlice?.status())?.outboundKnownPlain ?? 0);
      assert.equal(
        await asked(async () => {
          for (let i = 0; i < 5; i++) await connect(address);
        }),
        0,
      );
      assert.equal((await pair.onAlice?.status())?.outboundKnownPlain, passed + 5, 'counted all the same');
    }
    // Another port is another destination.
    const other = port;
    port += 20;
    assert.equal(await asked(() => greet(pair.alice, pair.bob.address4, port)), 1);
    port = other;
  });

  test('paths --flush, of all or of one address, takes effect at once', async () => {
    for (const of of [[], [pair.bob.address4]]) {
      await learn();
      await tcpcrypt('paths', '--flush', ...of);
      assert.deepEqual([...knownPlain(pair.alice)], []);
      assert.equal(await asked(connect), 1);
    }
  });

  test('what somebody else took out of the set comes back with the next SYN', async () => {
    await learn();
    pair.alice.enter('nft', ['flush', 'set', 'inet', POLICY_TABLE, KNOWN_PLAIN_SETS[0].name]);
    await eventually(async () => {
      await connect();
      assert.ok(knownPlain(pair.alice).has(`${pair.bob.address4} . ${port}`));
    });
    assert.equal(await asked(connect), 0);
  });

  test('the policy comes first: private refuses the same destination, and counts for nobody else', async () => {
    await learn();
    assert.equal(
      await asked(async () =>
        assert.equal(await greet(pair.alice, pair.bob.address4, port, NOBODY), 'ECONNREFUSED'),
      ),
      1,
    );
    assert.equal(await asked(connect), 0);
  });

  test('a reload empties the set, and a destination that is private now is refused', async () => {
    await learn();
    writeFileSync(policy, `[[rule]]\naction = "private"\nport = ${port}\n${POLICY}`);
    await tcpcrypt('reload');
    assert.deepEqual([...knownPlain(pair.alice)], []);
    assert.equal(await greet(pair.alice, pair.bob.address4, port), 'ECONNREFUSED');
    writeFileSync(policy, POLICY);
    await tcpcrypt('reload');
    await connect();
  });

  test('API-6, API-9: TCP_ENO_TEP_MANDATORY is refused, TCP_ENO_ENABLED 1 asks', async () => {
    const { address4, address6 } = pair.bob;
    for (const address of [address4, address6]) {
      await learn(address);
      for (const [option, outcome] of [
        [TCP_ENO.TEP_MANDATORY, 'ECONNREFUSED'],
        [TCP_ENO.ENABLED, undefined],
      ] as const) {
        let error: string | undefined = 'none yet';
        assert.equal(
          await asked(async () => {
            error = (await attempt(address, option)).error;
          }),
          1,
          `${option}`,
        );
        assert.equal(error, outcome);
      }
      assert.equal(await asked(() => attempt(address)), 0);
    }
  });

  test('the mark of a socket that insists is gone when it is connected, and its other bits stay', async () => {
    await learn();
    const { stdout, stderr } = await pair.alice.run(
      ...python(`
import socket
with socket.socket() as s:
    s.setsockopt(socket.IPPROTO_TCP, ${TCP_ENO.ENABLED}, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x55)
    s.connect(('${pair.bob.address4}', ${port}))
    print(hex(s.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)), end='')`),
    );
    assert.equal(`${stdout}`, '0x55', stderr);
  });

  test('more destinations than the limit: begun anew; many at once in one run; removed, and what fails is said', async () => {
    const source = `
import { KnownPlain } from '${import.meta.resolve('#src/kernel/known-plain.js')}';
import { setTimeout as sleep } from 'node:timers/promises';
const known = new KnownPlain(1000);
const until = Date.now() + 3_600_000;
const runs = () => process.getActiveResourcesInfo().filter((name) => name === 'ProcessWrap').length;
for (let i = 0; i < 2500; i++) known.add(i % 2 ? '192.0.2.1' : '2001:db8::1', 1 + i, until, Date.now());
let most = 0;
for (const end = Date.now() + 1500; Date.now() < end; await sleep(5)) most = Math.max(most, runs());
for (let i = 2000; i < 2400; i++) known.remove(i % 2 ? '192.0.2.1' : '2001:db8::1', 1 + i, Date.now());
await sleep(1000);
console.log(most);
`;
    const { code, stdout, stderr } = await pair.alice.run(process.execPath, [
      '--input-type=module',
      '-e',
      source,
    ]);
    assert.equal(code, 0, stderr);
    assert.equal(`${stdout}`.trim(), '1', 'one tool at a time');
    const ports = [...knownPlain(pair.alice).keys()].map((element) => Number(element.split(' . ')[1]));
    assert.deepEqual(
      ports.sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => 2401 + i),
    );
    await tcpcrypt('paths', '--flush');
    // A tool that fails is no reason to end; who asked hears of it. (Bob has no table.)
    const flushed = await pair.bob.run(process.execPath, [
      '--input-type=module',
      '-e',
      `
import { KnownPlain } from '${import.meta.resolve('#src/kernel/known-plain.js')}';
const known = new KnownPlain(1000);
known.add('192.0.2.1', 1, Date.now() + 60_000, Date.now());
await known.flush().then(() => console.log('no error'), ({ code }) => console.log(code));
known.close();`,
    ]);
    assert.equal(`${flushed.stdout}`.trim(), 'ERR_TCPCRYPT_KERNEL_FEATURE', String(flushed.stderr));
  });

  test('a daemon that is killed leaves nothing; one that stops neither', async () => {
    writeFileSync(policy, '');
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      if (!pair.onAlice?.running) pair.onAlice = await pair.daemon(pair.alice, ['--policy', policy]);
      else await tcpcrypt('reload'); // nothing is private: no rule has to stay
      await tcpcrypt('paths', '--flush');
      await learn();
      await pair.onAlice.stop(signal);
      await eventually(() => assert.equal(rulesOf(pair.alice), pristine));
    }
  });

  /** The server does not answer in the words of support/options.ts; what matters is whether it is reached. */
  async function attempt(address: string, option?: number): Promise<{ error?: string }> {
    const set = option === undefined ? '' : `s.setsockopt(socket.IPPROTO_TCP, ${option}, 1)`;
    const { stdout } = await pair.alice.run(
      ...python(
        `
import errno, socket, sys
with socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET) as s:
    s.settimeout(10)
    ${set}
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        s.sendall(b'hello')
        s.recv(100)
    except OSError as error: print(errno.errorcode[error.errno], end='')
`,
        address,
        `${port}`,
      ),
    );
    return `${stdout}` === '' ? {} : { error: `${stdout}` };
  }
});
