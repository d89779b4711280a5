/** Programs that know nothing of tcpcrypt: Redis, OpenSSH (whose server speaks first), netcat (half-close). */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { eventually, Pair, PLACES, skip } from './support/pair.js';

const MIB = 1024 * 1024;

/** Listens on a port, stores what comes until its end, then sends a file. */
const ANSWER_AFTER_END = `
import socket, sys
connection, _ = socket.create_server(('', int(sys.argv[1]))).accept()
with open(sys.argv[2], 'wb') as heard:
    while data := connection.recv(65536): heard.write(data)
connection.sendall(open(sys.argv[3], 'rb').read())
connection.close()
`;

for (const place of PLACES)
  describe(`unmodified programs, daemon at ${place}`, { skip }, () => {
    let pair: Pair;
    before(async () => {
      pair = await Pair.open(place);
    });
    after(() => pair?.close());
    beforeEach(() => pair.forget());

    const file = (name: string, content: string | Uint8Array = ''): string => {
      const path = join(pair.lab.directory, name);
      writeFileSync(path, content);
      return path;
    };

    test('redis executes 100,000 pipelined commands, and knows who its client is', async () => {
      const port = 6379;
      const server = pair.bob.spawn(
        'redis-server',
        ['--port', String(port), '--bind', '0.0.0.0', '--protected-mode', 'no', '--save', ''],
        { stdio: 'ignore', cwd: pair.lab.directory },
      );
      await pair.bob.waitForListener(port);
      const redis = async (args: readonly string[], input?: string): Promise<string> => {
        const { code, stdout, stderr } = await pair.alice.run(
          'redis-cli',
          ['-h', pair.bob.address4, '-p', String(port), ...args],
          { timeoutMs: 60_000, ...(input === undefined ? {} : { input }) },
        );
        assert.equal(code, 0, stderr);
        return String(stdout);
      };
      const commands = Array.from({ length: 100_000 }, (_, i) => `SET key:${i} value-${i * 7}\r\n`).join('');
      assert.match(await redis(['--pipe'], commands), /errors: 0, replies: 100000/);
      assert.equal((await redis(['DBSIZE'])).trim(), '100000');
      const keys = [0, 1, 4711, 99_999];
      assert.deepEqual(
        (await redis(['MGET', ...keys.map((i) => `key:${i}`)])).trim().split('\n'),
        keys.map((i) => `value-${i * 7}`),
      );
      assert.match(await redis(['CLIENT', 'LIST']), new RegExp(` addr=${pair.alice.address4}:`));
      await pair.assertRelayed(port, 4);
      server.kill();
    });

    test('redis in protected mode refuses a client that comes through the daemon as any other', async () => {
      const port = 6380;
      const server = pair.bob.spawn(
        'redis-server',
        ['--port', String(port), '--protected-mode', 'yes', '--save', ''],
        { stdio: 'ignore', cwd: pair.lab.directory },
      );
      await pair.bob.waitForListener(port);
      const { stdout, stderr } = await pair.alice.run('redis-cli', [
        ...['-h', pair.bob.address4, '-p', String(port)],
        'PING',
      ]);
      assert.match(`${stdout}${stderr}`, /DENIED/);
      server.kill();
    });

    test('ssh runs a command and carries 10 MiB', async () => {
      const port = 2222;
      const directory = join(pair.lab.directory, 'ssh');
      mkdirSync(directory, { mode: 0o700 });
      for (const name of ['host', 'user']) {
        const { code, stderr } = await pair.alice.run('ssh-keygen', [
          ...['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, name)],
        ]);
        assert.equal(code, 0, stderr);
      }
      const authorized = join(directory, 'authorized');
      writeFileSync(authorized, readFileSync(join(directory, 'user.pub')));
      chmodSync(authorized, 0o600);
      writeFileSync(
        join(directory, 'config'),
        `Port ${port}
HostKey ${directory}/host
AuthorizedKeysFile ${authorized}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
`,
      );
      // sshd wants its directory for separated privileges below /run; a /run of its own leaves the machine's alone.
      const sshd = `mount -t tmpfs none /run && mkdir /run/sshd && exec "$(command -v sshd)" -D -e -f '${directory}/config'`;
      const server = pair.bob.spawn('unshare', ['--mount', 'sh', '-c', sshd], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      server.stderr?.on('data', (text) => {
        said += text;
      });
      await pair.bob.waitForListener(port).catch((error) => assert.fail(`${error.message}: ${said}`));
      const ssh = (command: string, input: Uint8Array | string = '') =>
        pair.alice.run(
          'ssh',
          [
            ...['-F', 'none', '-i', join(directory, 'user'), '-p', String(port), '-o', 'BatchMode=yes'],
            ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'],
            ...[`root@${pair.bob.address4}`, command],
          ],
          { input, timeoutMs: 30_000 },
        );
      const client = await ssh('echo $SSH_CLIENT; exit 7');
      assert.equal(client.code, 7, `${client.stderr} ${said}`);
      assert.ok(String(client.stdout).startsWith(`${pair.alice.address4} `), String(client.stdout));
      const data = randomBytes(10 * MIB);
      const echoed = await ssh('cat', data);
      assert.equal(echoed.code, 0, echoed.stderr);
      assert.ok(echoed.stdout.equals(data));
      await pair.assertRelayed(port, 2);
      server.kill();
    });

    /** netcat on both hosts: `server`'s input goes to the client's output, and the other way round. */
    async function netcat(port: number, commands: { server: string; client: string }) {
      const server = pair.bob.run('sh', ['-c', commands.server], { timeoutMs: 30_000 });
      await pair.bob.waitForListener(port);
      const client = await pair.alice.run('sh', ['-c', commands.client], { timeoutMs: 30_000 });
      return { server: await server, client };
    }

    test('netcat: the client ends, and the server still sends what it has', async () => {
      const question = randomBytes(3 * MIB);
      const answer = randomBytes(5 * MIB);
      const [ask, reply] = [file('question', question), file('answer', answer)];
      const heard = join(pair.lab.directory, 'heard');
      // A listening netcat leaves when its client has ended, whatever it still has to send: Python answers.
      const { server, client } = await netcat(7001, {
        server: `python3 -c "${ANSWER_AFTER_END}" 7001 ${heard} ${reply}`,
        client: `nc -N ${pair.bob.address4} 7001 < ${ask}`,
      });
      assert.equal(client.code, 0, client.stderr);
      assert.equal(server.code, 0, server.stderr);
      assert.equal(digest(readFileSync(heard)), digest(question));
      assert.equal(digest(client.stdout), digest(answer));
      await pair.assertRelayed(7001);
    });

    test('netcat: the server ends, and the client still sends what it has', async () => {
      const speech = randomBytes(5 * MIB);
      const reply = randomBytes(3 * MIB);
      const [words, back] = [file('speech', speech), file('back', reply)];
      mkfifo(pair, 'later');
      const heard = file('heard-by-client');
      const fifo = join(pair.lab.directory, 'later');
      const { server, client } = await netcat(7002, {
        server: `nc -lN 7002 < ${words}`,
        client: `nc -N ${pair.bob.address4} 7002 < ${fifo} > ${heard} & exec 3> ${fifo}
                 while [ $(stat -c %s ${heard}) -lt ${speech.length} ]; do sleep 0.05; done
                 sleep 0.3; cat ${back} >&3; exec 3>&-; wait`,
      });
      assert.equal(client.code, 0, client.stderr);
      assert.equal(server.code, 0, server.stderr);
      assert.equal(digest(readFileSync(heard)), digest(speech));
      assert.equal(digest(server.stdout), digest(reply));
      await pair.assertRelayed(7002);
    });

    test('netcat: nothing is sent in either direction, and both ends see the end', async () => {
      const { server, client } = await netcat(7003, {
        server: 'nc -lN 7003 < /dev/null',
        client: `nc -N ${pair.bob.address4} 7003 < /dev/null`,
      });
      assert.deepEqual([server.code, client.code], [0, 0], server.stderr + client.stderr);
      await pair.assertRelayed(7003);
    });

    test('netcat: a single byte, in both directions, before either end closes', async () => {
      const { server, client } = await netcat(7004, {
        server: `printf b | nc -lN 7004`,
        client: `printf a | nc -N ${pair.bob.address4} 7004`,
      });
      assert.equal(String(server.stdout), 'a');
      assert.equal(String(client.stdout), 'b');
      await pair.assertRelayed(7004);
    });

    test('the daemon holds nothing of them any more', async () => {
      // The relay port and the stand-in connections: no socket of the daemon but its listeners.
      for (const [host, daemon] of [
        [pair.alice, pair.onAlice],
        [pair.bob, pair.onBob],
      ] as const) {
        if (daemon === undefined) continue;
        await eventually(() => {
          const sockets = host.enter('ss', ['-Htnp', 'state', 'connected']);
          assert.ok(!sockets.includes(`pid=${daemon.pid},`), sockets);
        });
      }
    });
  });

function mkfifo(pair: Pair, name: string): void {
  pair.bob.enter('mkfifo', [join(pair.lab.directory, name)]);
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
