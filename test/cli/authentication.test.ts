/** The flags about who is at the other end, and `tcpcrypt host-key`. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { KernelPart, needsRoot } from '../socket/kernel-part.js';
import { Tool, tool } from './support/tool.js';

const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-cli-'));
const path = (name: string): string => join(directory, name);
after(() => rmSync(directory, { recursive: true }));
afterEach(() => {
  for (const { child } of Tool.running) child.kill('SIGKILL');
});

const limit = { timeout: 30_000 };

interface Printed {
  readonly fingerprint: string;
  readonly publicKey: string;
  readonly what?: string;
}

async function hostKey(verb: 'make' | 'show', file: string): Promise<Printed> {
  const command = tool(['host-key', verb, file, '--json']);
  assert.equal(await command.over, 0, command.stderr);
  return JSON.parse(String(command.stdout)) as Printed;
}

function secret(name: string, contents: string): string {
  writeFileSync(path(name), contents, { mode: 0o600 });
  return path(name);
}

describe('tcpcrypt host-key', () => {
  test('makes a key that nobody else can read, once; shows its fingerprint', limit, async () => {
    const file = path('new/host_key');
    const made = await hostKey('make', file);
    assert.equal(made.what, 'made');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const again = await hostKey('make', file);
    assert.deepEqual(again, { ...made, what: 'was there already' });
    const { what: _, ...shown } = made;
    assert.deepEqual(await hostKey('show', file), shown);
    const text = tool(['host-key', 'show', file]);
    await text.over;
    assert.match(String(text.stdout), /SHA256:.*\n.*\nADDRESS ed25519 [A-Za-z0-9+/]{43}=\n$/);
  });

  test('errors name the remedy', limit, async () => {
    const open = secret('open', readFileSync(path('new/host_key'), 'utf8'));
    chmodSync(open, 0o644);
    const cases: [string, RegExp][] = [
      [open, /chmod 600/],
      [path('none'), /ENOENT/],
      [secret('garbage', 'garbage'), /host-key make/],
    ];
    for (const [file, message] of cases) {
      const command = tool(['host-key', 'show', file]);
      assert.equal(await command.over, 1);
      assert.match(command.stderr, message);
      assert.match(command.stderr, /\[ERR_TCPCRYPT_AUTH_KEY_FILE\]/);
    }
  });
});

describe('tcpcrypt listen, tcpcrypt connect', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  /** A conversation with these flags at the two ends. */
  async function conversation(
    server: readonly string[],
    client: readonly string[],
  ): Promise<{ listen: Tool; connect: Tool; codes: unknown[]; peers: unknown[] }> {
    const listen = tool(['listen', '127.0.0.1', 0, '--json', ...server]);
    const connect = tool(['connect', '127.0.0.1', await listen.port(), '--json', ...client]);
    connect.child.stdin?.end('from the client');
    listen.child.stdin?.end('from the server');
    const codes = [await connect.over];
    if (codes[0] !== 0) listen.child.kill('SIGINT');
    codes.push(await listen.over);
    const peers = [connect, listen].map(
      ({ events }) => events.find(({ event }) => event === 'secure')?.peer as unknown,
    );
    return { listen, connect, codes, peers };
  }

  test('--auth-key: both ends have the same secret', limit, async () => {
    const key = secret('secret', 'a strong secret of many bytes\n');
    const { codes, peers, listen } = await conversation(['--auth-key', key], ['--auth-key', key]);
    assert.deepEqual(codes, [0, 0]);
    assert.deepEqual(peers, Array(2).fill({ mechanism: 'shared-key', name: '' }));
    assert.equal(String(listen.stdout), 'from the client');
  });

  test('--auth-key: another secret, or none: refused, and nothing is said', limit, async () => {
    const key = secret('secret', 'a strong secret of many bytes\n');
    const other = secret('other', 'another strong secret of many\n');
    for (const flags of [['--auth-key', other], []]) {
      const { codes, listen, connect } = await conversation(['--auth-key', key], flags);
      assert.deepEqual(codes, [1, 130]);
      assert.equal(String(listen.stdout) + connect.stdout, '');
      const { how } = listen.events.find(({ event }) => event === 'end') ?? {};
      assert.match(`${how}`, /^ERR_TCPCRYPT_AUTH_(PROOF|REFUSED|UNAWARE)$/);
    }
  });

  test('--host-key and --known-hosts: remembered at first use, refused when changed', limit, async () => {
    const server = path('server_key');
    const { fingerprint } = await hostKey('make', server);
    const known = path('known_hosts');
    const listen = tool(['listen', '127.0.0.1', 0, '--keep-open', '--echo', '--host-key', server]);
    const port = await listen.port();
    const call = async (): Promise<Tool> => {
      const connect = tool(['connect', '127.0.0.1', port, '--json', '--known-hosts', known]);
      connect.child.stdin?.end('hello');
      await connect.over;
      return connect;
    };
    const host = `127.0.0.1:${port}`;
    const first = await call();
    assert.deepEqual(first.events[0], { event: 'first-use', host, fingerprint, file: known });
    const second = await call();
    assert.equal(String(second.stdout), 'hello');
    assert.deepEqual(second.events[0]?.peer, { mechanism: 'known-key', name: host, fingerprint });
    assert.match(listen.stderr, /encrypted: /);

    const { publicKey } = await hostKey('make', path('another_key'));
    writeFileSync(known, `${host} ed25519 ${publicKey}\n`);
    const third = await call();
    assert.equal(String(third.stdout), '');
    assert.equal(third.events[0]?.how, 'ERR_TCPCRYPT_AUTH_KEY_CHANGED');
    assert.match(`${third.events[0]?.message}`, new RegExp(`${known}, line 1.*delete the line`));
  });

  test('both ends have a host key', limit, async () => {
    const [server, client] = [path('server_key'), path('client_key')];
    await hostKey('make', client);
    const files = [path('known_to_server'), path('known_to_client')] as const;
    const { codes, peers } = await conversation(
      ['--host-key', server, '--known-hosts', files[0]],
      ['--host-key', client, '--known-hosts', files[1]],
    );
    assert.deepEqual(codes, [0, 0]);
    const [ofClient, ofServer] = peers as { name: string; fingerprint: string }[];
    assert.match(`${ofClient?.name}`, /^127\.0\.0\.1:\d+$/);
    assert.equal(ofServer?.name, '127.0.0.1');
    assert.equal(ofServer?.fingerprint, (await hostKey('show', client)).fingerprint);
  });

  test('flags that do not go together', limit, async () => {
    const command = tool(['connect', 'localhost', 1, '--auth-key', 'x', '--known-hosts', 'y']);
    assert.equal(await command.over, 2);
    assert.match(command.stderr, /cannot be used with/);
  });
});
