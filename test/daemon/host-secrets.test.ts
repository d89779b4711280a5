/** The policy file's words about authentication, and what becomes of them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { makeHostKey } from '#src/auth/index.js';
import { HostAuthentication } from '#src/daemon/host-authentication.js';
import { checkKnownHosts, makeKnownHostsDirectory } from '#src/daemon/known-hosts-file.js';
import { demandOf } from '#src/daemon/policy/demand.js';
import type { Policy } from '#src/daemon/policy/policy.js';
import { checkPolicy } from '#src/daemon/policy/policy-file.js';
import { withCode } from '../support/code.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-hosts-'));
after(() => rmSync(directory, { recursive: true }));
const notRoot = process.getuid?.() === 0 ? false : 'needs root';
const path = (name: string): string => join(directory, name);

function policy(text: string): Policy {
  const result = checkPolicy(text, 'file');
  assert.ok(result.ok, JSON.stringify(result));
  return result.policy;
}

const KNOWN = '[authentication]\nknown-hosts = "/etc/tcpcrypt/known_hosts"\nshared-key = "/k"\nca = "/ca"';
const rule = (...lines: string[]): string => ['[[rule]]', ...lines].join('\n');
const demanding = (...lines: string[]): string => rule('action = "private"', ...lines);

describe('which proof is demanded', () => {
  const of = (text: string, remote: string, port: number, direction: 'inbound' | 'outbound' = 'outbound') =>
    demandOf(policy(text), direction, { remote, port, localPort: 40_000 });

  test('by network, port and direction: of the first private rule that fits', () => {
    const text = [
      demanding('port = 1', 'authenticate = "host-key"', 'direction = "inbound"'),
      demanding('network = "10.1.0.0/16"', 'authenticate = "certificate"'),
      rule('action = "clear"', 'network = "10.2.0.0/16"'),
      demanding('port = 1'),
      demanding('authenticate = "shared-key"'),
      KNOWN,
    ].join('\n');
    assert.equal(of(text, '10.9.0.1', 1, 'inbound'), 'host-key');
    assert.equal(of(text, '10.9.0.1', 1), undefined);
    assert.equal(of(text, '10.1.0.1', 1), 'certificate');
    assert.equal(of(text, '::ffff:10.1.0.1', 1), 'certificate');
    assert.equal(of(text, '10.9.0.1', 2), 'shared-key');
    assert.equal(of(text, 'fd00::1', 2, 'inbound'), 'shared-key');
  });

  test('a rule for a user that is not private does not stand in the way', () => {
    const text = [
      rule('action = "clear"', 'user = "root"'),
      demanding('authenticate = "host-key"'),
      KNOWN,
    ].join('\n');
    assert.equal(of(text, '10.0.0.1', 1), 'host-key');
  });
});

describe('mistakes', () => {
  const cases: [string, string, RegExp][] = [
    [
      'not private',
      rule('action = "private-or-clear"', 'authenticate = "host-key"'),
      /^3: only what is encr/,
    ],
    [
      'by user',
      demanding('user = "root"', 'authenticate = "host-key"'),
      /^4: proofs are demanded by network/,
    ],
    ['unknown mechanism', demanding('authenticate = "password"'), /^3: "password" does not fit/],
    [
      'behind a rule for a user',
      [demanding('user = "root"'), demanding('authenticate = "host-key"')].join('\n'),
      /^1: whether this rule or rule 2/,
    ],
  ];
  for (const [what, text, problem] of cases)
    test(what, () => {
      const result = checkPolicy(`${text}\n${KNOWN}`, 'file');
      assert.ok(!result.ok);
      assert.match(result.problems.map((one) => `${one.line}: ${one.problem}`).join('\n'), problem);
    });

  test('nothing to check the proof with', () => {
    for (const [demand, lacks] of [
      ['host-key', 'known-hosts'],
      ['certificate', 'ca'],
      ['shared-key', 'shared-key'],
    ]) {
      const result = checkPolicy(demanding(`authenticate = "${demand}"`), 'file');
      assert.ok(!result.ok);
      assert.match(result.problems[0]?.remedy ?? '', new RegExp(`add "${lacks}" to \\[authentication\\]`));
    }
  });

  test('keys that need another one, relative paths, unknown keys', () => {
    const table = ['certificate = "/c"', 'first-use = "accept"', 'names = ["a.example"]'];
    const result = checkPolicy(['[authentication]', ...table].join('\n'), 'file');
    assert.ok(!result.ok);
    assert.deepEqual(
      result.problems.map(({ line, remedy }) => `${line}: ${remedy}`),
      ['2: add "certificate-key"', '3: add "known-hosts"', '4: add "ca"'],
    );
    for (const line of ['host-key = "key"', 'hostkey = "/key"', 'first-use = "ask"', 'names = [""]']) {
      const wrong = checkPolicy(`[authentication]\n${line}`, 'file');
      assert.ok(!wrong.ok);
      assert.equal(wrong.problems[0]?.line, 2);
    }
  });

  test('policy explain tells what is demanded', () => {
    writeFileSync(path('policy.toml'), `${demanding('port = 5432', 'authenticate = "host-key"')}\n${KNOWN}`);
    const { stdout, status } = spawnSync(
      process.execPath,
      [main, 'policy', 'explain', '--policy', path('policy.toml'), '--to', '192.0.2.1:5432'],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0);
    assert.match(
      stdout,
      /private \(encrypted, and the other host proves by host-key who it is; or refused\)/,
    );
  });
});

describe('the files', () => {
  const authentication = (table: string): Policy => policy(`[authentication]\n${table}`);
  const load = (table: string) => new HostAuthentication(authentication(table), () => {});

  test('none: nothing is offered', () => {
    assert.equal(load('').offered, undefined);
  });

  test('what there is, is offered; a policy with other secrets needs a restart', () => {
    makeHostKey(path('host_key'));
    writeFileSync(path('shared'), randomBytes(32), { mode: 0o600 });
    const table = `host-key = "${path('host_key')}"\nshared-key = "${path('shared')}"`;
    const hosts = load(table);
    assert.deepEqual(
      hosts.offered?.offer.map(({ name }) => name),
      ['known-key', 'shared-key'],
    );
    assert.equal(hosts.offered?.require, false);
    hosts.follow(policy(`${rule('action = "clear"')}\n[authentication]\n${table}`));
    assert.throws(() => hosts.follow(policy('')), withCode('ERR_TCPCRYPT_POLICY'));
  });

  test('missing, open to others, or something else: an error that names the file', () => {
    writeFileSync(path('garbage'), 'garbage of many bytes', { mode: 0o600 });
    writeFileSync(path('short'), 'short', { mode: 0o600 });
    writeFileSync(path('open'), readFileSync(path('host_key')));
    chmodSync(path('open'), 0o640);
    const cases = [
      `host-key = "${path('none')}"`,
      `host-key = "${path('garbage')}"`,
      `host-key = "${path('open')}"`,
      `shared-key = "${path('short')}"`,
      `ca = "${path('none')}"`,
      `ca = "${path('garbage')}"`,
      `certificate = "${path('garbage')}"\ncertificate-key = "${path('garbage')}"`,
    ];
    for (const table of cases)
      assert.throws(
        () => load(table),
        (error: NodeJS.ErrnoException) => {
          assert.equal(error.code, 'ERR_TCPCRYPT_AUTH_KEY_FILE', `${table}: ${error.stack}`);
          assert.ok(error.message.includes(directory));
          return true;
        },
        table,
      );
  });

  test('known hosts: a directory of its own for the daemon, and not for nobody', { skip: notRoot }, () => {
    const knownHosts = path('state/known_hosts');
    const secrets = { knownHosts, firstUse: 'accept' } as const;
    assert.throws(
      () => makeKnownHostsDirectory(secrets, 'nobody'),
      withCode('ERR_TCPCRYPT_AUTH_KNOWN_HOSTS'),
    );
    assert.ok(!existsSync(path('state')));
    makeKnownHostsDirectory(secrets, 'daemon');
    assert.notEqual(statSync(path('state')).uid, 0);
    makeKnownHostsDirectory({ knownHosts: path('no/known_hosts'), firstUse: 'refuse' }, 'nobody');
    assert.ok(!existsSync(path('no')));
    checkKnownHosts(secrets, 'root');
    const elsewhere = { ...secrets, knownHosts: path('nowhere/known_hosts') };
    assert.throws(() => checkKnownHosts(elsewhere, 'daemon'), withCode('ERR_TCPCRYPT_AUTH_KNOWN_HOSTS'));
  });
});
