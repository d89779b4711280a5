/** `tcpcrypt session-id`, of programs whose connection the daemons carry. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from '../daemon/support/pair.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const PORT = 7400;

/** One connection that stays open: `serve PORT`, `call ADDRESS PORT`. Each prints its descriptor and both its addresses. */
const HOLD = `
import socket, sys
if sys.argv[1] == 'serve': connection, peer = socket.create_server(('', int(sys.argv[2]))).accept()
else: connection = socket.create_connection((sys.argv[2], int(sys.argv[3])))
print('%d %s:%d %s:%d' % (connection.fileno(), *connection.getsockname(), *connection.getpeername()), flush=True)
try: connection.recv(1)
except ConnectionResetError: pass
`;

interface Held {
  readonly process: ChildProcess;
  readonly fd: string;
  readonly local: string;
  readonly remote: string;
}

async function said(process: ChildProcess): Promise<Held> {
  assert.ok(process.stdout !== null);
  const [line] = (await once(createInterface(process.stdout), 'line')) as [string];
  const [fd = '', local = '', remote = ''] = line.split(' ');
  return { process, fd, local, remote };
}

describe('tcpcrypt session-id', { skip }, () => {
  let pair: Pair;
  let client: Held;
  let server: Held;
  before(async () => {
    pair = await Pair.open('both ends');
    const stdio = ['ignore', 'pipe', 'inherit'] as ('ignore' | 'pipe' | 'inherit')[];
    const serving = pair.bob.spawn(...python(HOLD, 'serve', `${PORT}`), { stdio });
    await pair.bob.waitForListener(PORT);
    const calling = pair.alice.spawn(...python(HOLD, 'call', pair.bob.address4, `${PORT}`), { stdio });
    [server, client] = await Promise.all([said(serving), said(calling)]);
  });
  after(() => pair?.close());

  const run = async (
    host: Host,
    args: readonly string[],
    uid?: number,
  ): Promise<{ code: number; stdout: string; stderr: string }> => {
    const { code, stdout, stderr } = await host.run(process.execPath, [main, 'session-id', ...args], {
      timeoutMs: 30_000,
      ...(uid === undefined ? {} : { uid }),
    });
    return { code, stdout: `${stdout}`.trim(), stderr };
  };
  const pidOf = ({ process: { pid } }: Held): string => `${pid}`;

  test('--pid, --fd and --tuple tell the same, at both ends', async () => {
    let id = '';
    // The key exchange may still go on.
    await eventually(async () => {
      const { code, stdout } = await run(pair.alice, ['--pid', pidOf(client), '--fd', client.fd]);
      assert.equal(code, 0);
      id = stdout;
    });
    assert.match(id, /^23[0-9a-f]{64}$/);

    const facts = JSON.parse(
      (await run(pair.bob, ['--pid', pidOf(server), '--fd', server.fd, '--json'])).stdout,
    ) as Record<string, unknown>;
    const { transcript, ...others } = facts;
    assert.match(`${transcript}`, /^45/);
    assert.deepEqual(others, {
      pid: server.process.pid,
      fd: Number(server.fd),
      local: server.local,
      remote: server.remote, // the client's own address and port
      state: 'encrypted',
      sessionId: id,
      role: 'B',
      tep: '0x23',
      cipher: '0x0001',
      peerAware: false,
    });

    const { stdout: lines } = await run(pair.bob, ['--pid', pidOf(server)]);
    assert.equal(lines, [server.fd, server.local, server.remote, id].join('  '));

    const pins = (host: Host): string[] => ['--pins', pair.kernelPart(host)];
    const byTuple = (host: Host, local: string, remote: string) =>
      run(host, ['--tuple', local, remote, ...pins(host)]);
    assert.equal((await byTuple(pair.alice, client.local, client.remote)).stdout, id);
    assert.equal((await byTuple(pair.bob, server.local, server.remote)).stdout, id);
    // As ss shows it: with the port that stands in for the client's.
    const shown = pair.bob.enter('ss', ['-Htn', `sport = :${PORT}`]).split('\n');
    const standIns = shown.map((line) => line.split(/\s+/)[4] ?? '').filter((end) => end !== client.local);
    const answers = await Promise.all(
      standIns.filter(Boolean).map((remote) => byTuple(pair.bob, server.local, remote)),
    );
    assert.ok(answers.some(({ stdout }) => stdout === id));
  });

  test('what has no session ID: exit code 1 and why; mistakes: exit code 2', async () => {
    const nothing = await run(pair.bob, ['--pid', `${process.pid}`, '--json']);
    assert.equal(nothing.code, 1);
    assert.doesNotMatch(nothing.stdout, /sessionId/);
    const unknown = await run(pair.alice, [
      ...['--tuple', '10.69.1.1:1', '[fd69:2::1]:2', '--pins', pair.kernelPart(pair.alice)],
    ]);
    assert.deepEqual([unknown.code, unknown.stdout], [1, '']);
    assert.match(unknown.stderr, /carries no connection[\s\S]*ERR_TCPCRYPT_NO_SESSION/);
    const foreign = await run(pair.bob, ['--pid', pidOf(server)], 65_534);
    assert.equal(foreign.code, 1);
    assert.match(foreign.stderr, /ERR_TCPCRYPT_PERMISSION/);
    for (const [args, why] of [
      [[], /either --pid or --tuple/],
      [['--fd', '3'], /either --pid or --tuple/],
      [['--pid', '0x1'], /a number/],
      [['--pid', pidOf(server), '--fd', '999'], /no descriptor 999/],
      [['--pid', pidOf(server), '--fd', '0'], /no connected TCP socket/],
      [['--pid', '999999999'], /no process 999999999/],
      [['--tuple', '10.0.0.1:1'], /takes two/],
      [['--tuple', '10.0.0.1:1', '10.0.0.1'], /not an address and a port: 10.0.0.1/],
      [['--tuple', '10.0.0.1:1', '10.0.0.999:1'], /not an IP address/],
    ] as const) {
      const { code, stderr } = await run(pair.bob, args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, why);
    }
  });
});
