/**
 * Two daemons that prove to each other which hosts they are, under programs that know nothing of it:
 *
 *     alice [daemon] ──── router, perhaps with a man in the middle ──── [daemon] bob      carol [daemon, no keys]
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { makeHostKey, rawPublicKey, readHostKey } from '#src/auth/index.js';
import { ask } from '#src/daemon/control/client.js';
import type { Status } from '#src/daemon/control/protocol.js';
import type { DaemonProcess, LogLine } from '#src/demo/daemons.js';
import { fetchLetter, lastClient, serve } from '#src/demo/web.js';
import type { Host } from '#src/lab/host.js';
import { authority, CLIENT, issue, SERVER } from '../auth/support/ca.js';
import { type KernelPart, kernelPartIn } from '../auth/support/network.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { greet, policyFile } from './support/policies.js';
import { MANY } from './support/probe.js';

const TCPCRYPT = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const MIDDLE = fileURLToPath(new URL('../auth/support/agent.js', import.meta.url));
const PORT = { 'host-key': 7701, certificate: 7702, 'shared-key': 7703, open: 7704, web: 80 } as const;
type Demand = Exclude<keyof typeof PORT, 'open' | 'web'>;
const DEMANDS: readonly Demand[] = ['host-key', 'certificate', 'shared-key'];

interface Peer {
  readonly mechanism: string;
  readonly name: string;
  readonly fingerprint?: string;
}

describe('host authentication by daemons', { skip }, () => {
  let pair: Pair;
  let carol: Host;
  let onCarol: DaemonProcess;
  let onRouter: KernelPart | undefined;
  const path = (...names: string[]): string => join(pair.lab.directory, ...names);

  const pem = (key: { export(options: { type: 'pkcs8'; format: 'pem' }): string | Buffer }): string =>
    String(key.export({ type: 'pkcs8', format: 'pem' }));

  /** Keys of a host, in a directory of its own. */
  async function keys(host: Host, ca: Awaited<ReturnType<typeof authority>>): Promise<void> {
    mkdirSync(path(host.name));
    makeHostKey(path(host.name, 'host_key'));
    const own = await issue({
      subject: `CN=${host.name}`,
      issuer: ca,
      names: [host.address4, host.address6].map((value) => ({ type: 'ip', value })),
      purposes: [SERVER, CLIENT],
    });
    writeFileSync(path(host.name, 'host.pem'), own.pem);
    writeFileSync(path(host.name, 'host.key'), pem(own.key), { mode: 0o600 });
  }

  /** What `host` proves itself with, and what it demands on which port, in both directions. */
  const policy = (host: Host, more = ''): string =>
    policyFile(
      pair.lab,
      `${DEMANDS.map(
        (demand) => `
        [[rule]]
        action = "private"
        port = ${demand === 'certificate' ? `[${PORT.web}, ${PORT[demand]}]` : PORT[demand]}
        authenticate = "${demand}"`,
      ).join('\n')}
      [authentication]
      host-key = "${path(host.name, 'host_key')}"
      known-hosts = "${path(host.name, 'known', 'hosts')}"
      shared-key = "${path('shared_key')}"
      certificate = "${path(host.name, 'host.pem')}"
      certificate-key = "${path(host.name, 'host.key')}"
      ca = "${path('ca.pem')}"
      ${more}`,
    );

  const knownAs = (host: Host, address = host.address4): string =>
    `${address} ed25519 ${rawPublicKey(readHostKey(path(host.name, 'host_key'))).toString('base64')}\n`;

  before(async () => {
    pair = await Pair.open('neither end');
    carol = pair.lab.host('carol');
    onRouter = kernelPartIn(pair.lab.router.cgroup, pair.lab.router.namespace);
    const ca = await authority();
    writeFileSync(path('ca.pem'), ca.pem);
    writeFileSync(path('shared_key'), randomBytes(32).toString('hex'), { mode: 0o600 });
    for (const host of [pair.alice, pair.bob]) await keys(host, ca);
    // bob knows alice beforehand, alice meets bob for the first time.
    mkdirSync(path('bob', 'known'));
    const { alice } = pair;
    writeFileSync(
      path('bob', 'known', 'hosts'),
      knownAs(alice) + knownAs(alice, alice.address6.toUpperCase()),
    );
    pair.onAlice = await pair.daemon(pair.alice, [
      ...['--policy', policy(pair.alice, 'first-use = "accept"'), '--user', 'daemon'],
    ]);
    pair.onBob = await pair.daemon(pair.bob, ['--policy', policy(pair.bob)]);
    onCarol = await pair.daemon(carol);
    for (const host of [pair.alice, pair.bob, carol])
      for (const port of [...DEMANDS, 'open' as const].map((name) => PORT[name])) {
        host.spawn(...python(MANY, 'serve', `${port}`, 'client', '6'), { stdio: 'ignore' });
        await host.waitForListener(port);
      }
  });
  after(async () => {
    await onRouter?.undo();
    await pair?.close();
  });

  const about = (daemon: DaemonProcess | undefined, event: string): (LogLine & { peer?: Peer })[] =>
    (daemon?.lines ?? []).filter((line) => line.event === event);

  for (const demand of DEMANDS)
    test(`${demand}: both prove who they are; the application notices nothing, the log names them`, async () => {
      for (const resumed of [false, true]) {
        pair.forget();
        assert.equal(await greet(pair.alice, pair.bob.address4, PORT[demand]), 'answered');
        await eventually(() => {
          const [ofAlice] = about(pair.onAlice, 'secure');
          const [ofBob] = about(pair.onBob, 'secure');
          const mechanism = demand === 'host-key' ? 'known-key' : demand;
          const names = demand === 'shared-key' ? ['', ''] : [pair.bob.address4, pair.alice.address4];
          assert.deepEqual(
            [ofAlice, ofBob].map((line) => [line?.peer?.mechanism, line?.peer?.name]),
            names.map((name) => [mechanism, name]),
          );
          assert.equal(ofAlice?.sessionId, ofBob?.sessionId);
          assert.equal(ofAlice?.peer?.fingerprint === undefined, demand === 'shared-key');
          assert.equal(ofAlice?.resumed, resumed);
        });
      }
    });

  test('bob was new to alice: remembered, with a word in the log', () => {
    const file = path('alice', 'known', 'hosts');
    assert.equal(readFileSync(file, 'utf8').slice(0, knownAs(pair.bob).length - 1), knownAs(pair.bob).trim());
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.notEqual(statSync(file).uid, 0);
  });

  test('IPv6', async () => {
    pair.forget();
    for (const demand of DEMANDS)
      assert.equal(await greet(pair.alice, pair.bob.address6, PORT[demand]), 'answered');
    await eventually(() => {
      const names = about(pair.onBob, 'secure').map(({ peer }) => peer?.name);
      assert.deepEqual(names, [pair.alice.address6, pair.alice.address6, '']);
    });
  });

  test('the other direction', async () => {
    for (const demand of DEMANDS)
      assert.equal(await greet(pair.bob, pair.alice.address4, PORT[demand]), 'answered');
  });

  test('a program that speaks tcpcrypt itself proves itself to a daemon, and knows it', async () => {
    const { stdout, stderr, code } = await carol.run('sh', [
      '-c',
      'echo hello | "$@"',
      'sh',
      ...[process.execPath, TCPCRYPT, 'connect', '--json', '--auth-key', path('shared_key')],
      ...[pair.bob.address4, String(PORT['shared-key'])],
    ]);
    assert.equal(code, 0, stderr);
    assert.match(String(stdout), new RegExp(carol.address4.replaceAll('.', '\\.')));
    assert.match(stderr, /"peer":\{"mechanism":"shared-key"/);
  });

  test('tcpcrypt connections tells who the other host is', async () => {
    pair.forget();
    const open = pair.alice.spawn(
      ...python(
        `import encodings.idna, socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    connection.sendall(b'hello')
    connection.recv(100)
    sys.stdin.read()`,
        pair.bob.address4,
        String(PORT['host-key']),
      ),
      { stdio: ['pipe', 'ignore', 'ignore'] },
    );
    try {
      await eventually(async () => {
        const command = [TCPCRYPT, 'connections', '--state', 'secure', '--port', String(PORT['host-key'])];
        const json = await pair.bob.run(process.execPath, [...command, '--json']);
        const [connection] = JSON.parse(String(json.stdout)) as { peer?: Peer }[];
        assert.equal(connection?.peer?.name, pair.alice.address4);
        assert.equal(connection.peer.mechanism, 'known-key');
        const { stdout } = await pair.bob.run(process.execPath, command);
        assert.match(String(stdout), new RegExp(`${pair.alice.address4} \\(known-key\\)`));
      });
    } finally {
      open.kill('SIGKILL');
    }
    await eventually(() => {
      for (const daemon of [pair.onAlice, pair.onBob]) assert.equal(about(daemon, 'end').length, 1);
    });
  });

  test('curl and nginx, by certificate', async () => {
    pair.forget();
    mkdirSync(path('web'));
    const letter = await serve(pair.bob, path('web'));
    assert.equal((await fetchLetter(pair.alice, pair.bob)).sha256, letter);
    assert.equal(lastClient(pair.bob, path('web')), pair.alice.address4);
    const [secure] = about(pair.onBob, 'secure');
    assert.equal(secure?.peer?.mechanism, 'certificate');
    await eventually(() => {
      for (const daemon of [pair.onAlice, pair.onBob]) assert.equal(about(daemon, 'end').length, 1);
    });
  });

  describe('a man in the middle between the daemons', () => {
    for (const demand of DEMANDS)
      for (const lies of demand === 'host-key' ? ['none', 'agreement'] : ['agreement'])
        test(`${demand}; his lies: ${lies}: both daemons notice, and no byte passes`, async () => {
          pair.forget();
          const port = PORT[demand];
          const { router } = pair.lab;
          const agent = router.spawn(
            process.execPath,
            [
              MIDDLE,
              JSON.stringify({
                part: 'middle',
                host: pair.bob.address4,
                port,
                lies,
                aware: true,
                secret: '',
              }),
            ],
            { stdio: ['ignore', 'pipe', 'inherit'] },
          );
          const said: string[] = [];
          agent.stdout?.setEncoding('utf8').on('data', (text: string) => said.push(text));
          await eventually(() => assert.match(said.join(''), /listening/));
          router.enter(
            'nft',
            ['-f', '-'],
            `table ip man_in_the_middle {
               chain prerouting {
                 type nat hook prerouting priority dstnat
                 iifname alice tcp dport ${port} redirect to :${port}
               }
             }`,
          );
          try {
            assert.equal(await greet(pair.alice, pair.bob.address4, port), 'ECONNRESET');
            await eventually(() => {
              assert.match(said.join(''), /heard/);
              for (const daemon of [pair.onAlice, pair.onBob]) {
                const [end] = about(daemon, 'end');
                assert.match(
                  `${end?.code ?? end?.how}`,
                  /^ERR_TCPCRYPT_AUTH_(SESSION|DOWNGRADED|PROOF|BATCH|REFUSED|TRUNCATED|CERTIFICATE|KEY_CHANGED|KEY_UNKNOWN)$|^reset$/,
                );
              }
              const codes = [pair.onAlice, pair.onBob].map((daemon) => about(daemon, 'end')[0]?.code);
              assert.ok(
                codes.some((code) => /AUTH_(SESSION|PROOF|BATCH|DOWNGRADED)/.test(`${code}`)),
                String(codes),
              );
            });
            assert.doesNotMatch(said.join(''), /hello/);
            assert.deepEqual([...about(pair.onAlice, 'secure'), ...about(pair.onBob, 'secure')], []);
          } finally {
            router.enter('nft', ['delete', 'table', 'ip', 'man_in_the_middle']);
            agent.kill('SIGKILL');
          }
        });
  });

  describe('a daemon without authentication', () => {
    test('refused by one that demands it, whoever calls; counted with the reason', async () => {
      pair.forget();
      for (const demand of DEMANDS) {
        assert.equal(await greet(carol, pair.bob.address4, PORT[demand]), 'ECONNRESET');
        assert.equal(await greet(pair.alice, carol.address4, PORT[demand]), 'ECONNRESET');
      }
      await eventually(() => {
        for (const daemon of [pair.onAlice, pair.onBob]) {
          const codes = about(daemon, 'end').map(({ code }) => code);
          assert.deepEqual(codes, Array(3).fill('ERR_TCPCRYPT_AUTH_UNAWARE'));
        }
      });
      assert.ok(Number((await pair.onBob?.status())?.failed) >= 3);
    });

    test('unaffected where nothing is demanded', async () => {
      pair.forget();
      onCarol.forget();
      assert.equal(await greet(carol, pair.bob.address4, PORT.open), 'answered');
      assert.equal(await greet(pair.alice, carol.address4, PORT.open), 'answered');
      assert.equal(await greet(pair.alice, pair.bob.address4, PORT.open), 'answered');
      await eventually(() => {
        const secure = [pair.onAlice, pair.onBob, onCarol].map((daemon) => about(daemon, 'secure').length);
        assert.deepEqual(secure, [2, 2, 2]);
      });
      for (const daemon of [pair.onAlice, pair.onBob, onCarol])
        for (const { peer } of about(daemon, 'secure')) assert.equal(peer, undefined);
    });
  });

  test('another host key than the known one: refused, and the log says what to do', async () => {
    pair.forget();
    const file = path('bob', 'known', 'hosts');
    const before = readFileSync(file, 'utf8');
    writeFileSync(file, `${pair.alice.address4} ed25519 ${randomBytes(32).toString('base64')}\n`);
    try {
      assert.equal(await greet(pair.alice, pair.bob.address4, PORT['host-key']), 'ECONNRESET');
      await eventually(() => {
        const [end] = about(pair.onBob, 'end') as (LogLine & { message?: string })[];
        assert.equal(end?.code, 'ERR_TCPCRYPT_AUTH_KEY_CHANGED');
        assert.match(`${end?.message}`, /delete the line/);
      });
    } finally {
      writeFileSync(file, before);
    }
  });

  test('workers have the keys, also one that took another’s place, and follow a new policy', async () => {
    const file = policy(pair.bob);
    const socket = `/run/tcpcrypt/net-${statSync(pair.bob.namespacePath, { bigint: true }).ino}.sock`;
    await pair.onBob?.stop();
    const onBob = await pair.daemon(pair.bob, ['--policy', file, '--user', 'daemon', '--workers', '2']);
    pair.onBob = onBob;
    for (const killed of [false, true]) {
      if (killed) {
        const { workers = [] } = (await ask(socket, 'status')).result as Status;
        for (const { pid } of workers) process.kill(pid, 'SIGKILL');
        await eventually(() => assert.equal(about(onBob, 'worker-replaced').length, 2));
      }
      for (const demand of DEMANDS)
        assert.equal(await greet(pair.alice, pair.bob.address4, PORT[demand]), 'answered');
    }
    assert.equal(await greet(carol, pair.bob.address4, PORT.open), 'answered');
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace(`port = ${PORT['host-key']}`, `port = ${PORT.open}`),
    );
    assert.deepEqual((await ask(socket, 'reload')).result, { policy: file, rules: DEMANDS.length });
    assert.equal(await greet(carol, pair.bob.address4, PORT.open), 'ECONNRESET');
    await eventually(() => assert.equal(about(onBob, 'end').at(-1)?.code, 'ERR_TCPCRYPT_AUTH_UNAWARE'));
  });
});
