/** The policy file, and what it says about connections. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { explain, type Question } from '#src/daemon/policy/explain.js';
import { kernelRules } from '#src/daemon/policy/kernel-rules.js';
import { contains, disjoint, networkText, parseNetwork } from '#src/daemon/policy/network.js';
import { BUILT_IN, merged, type Policy, withClearPorts } from '#src/daemon/policy/policy.js';
import { checkPolicy } from '#src/daemon/policy/policy-file.js';
import { mustStay } from '#src/kernel/policy-rules.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-policy-'));
after(() => rmSync(directory, { recursive: true }));

function policy(text: string): Policy {
  const result = checkPolicy(text, 'file');
  assert.ok(result.ok, JSON.stringify(result));
  return result.policy;
}

/** "line: problem". */
function problems(text: string): string[] {
  const result = checkPolicy(text, 'file');
  assert.ok(!result.ok, 'no problem was found');
  for (const { remedy } of result.problems) assert.notEqual(remedy, '');
  return result.problems.map(({ line, problem }) => `${line}: ${problem}`);
}

const network = (text: string) => {
  const parsed = parseNetwork(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
};

const action = (of: Policy, question: Omit<Question, 'direction'> & Partial<Question>): string =>
  explain(of, { direction: 'outbound', thisHost: false, ...question }).action;

const FULL = `
default = { outbound = "private" }
except-ports = [22, "80-90"]

[[rule]] # 5
name = "database"
action = "private"
direction = "outbound"
network = ["10.1.0.0/16", "fd00::/8"]
port = [5432, "6000-6010"]

[[rule]] # 12
action = "block"
user = ["root", 65534]

[[rule]] # 16
action = "clear"
direction = "inbound"
local-port = 53
cgroup = "/system.slice/app.service"
`;

describe('a policy file', () => {
  test('every key has its meaning', () => {
    const { rules, exceptPorts, default: fallback } = policy(FULL);
    assert.deepEqual(fallback, { outbound: 'private', inbound: 'private-or-clear' });
    assert.deepEqual(exceptPorts, [
      [22, 22],
      [80, 90],
    ]);
    assert.deepEqual(
      rules.map(({ line }) => line),
      [5, 12, 16],
    );
    const [database, block, clear] = rules;
    assert.deepEqual(database?.directions, ['outbound']);
    assert.deepEqual(database?.networks?.map(networkText), ['10.1.0.0/16', 'fd00::/8']);
    assert.deepEqual(database?.ports, [
      [5432, 5432],
      [6000, 6010],
    ]);
    assert.deepEqual(block?.directions, ['outbound']);
    assert.deepEqual(block?.users, [
      { name: 'root', uid: 0 },
      { name: '65534', uid: 65534 },
    ]);
    assert.deepEqual(clear?.cgroups, ['/system.slice/app.service']);
    assert.deepEqual(clear?.localPorts, [[53, 53]]);
  });

  test('an empty one is the built-in policy', () => {
    assert.deepEqual(policy(''), { ...BUILT_IN, source: 'file' });
  });

  const MISTAKES: readonly [name: string, text: string, expected: readonly string[]][] = [
    ['no TOML', 'default = \n', ['1: invalid value']],
    ['an unknown key', '\ndefualt = "clear"', ['2: there is no key "defualt"']],
    ['an unknown key of a rule', '[[rule]]\naction = "clear"\nports = 3', ['3: there is no key "ports"']],
    ['an unknown action', '[[rule]]\naction = "secret"', ['2: "secret" does not fit "action"']],
    ['no action', '[[rule]]\naction = "clear"\n[[rule]]\nport = 3', ['3: "action" is missing']],
    ['one pair of brackets', '[rule]\naction = "clear"', ['1: this table does not fit "rule"']],
    ['an empty list', '[[rule]]\naction = "clear"\nport = []', ['3: this list does not fit "port"']],
    [
      'ports that are none',
      '[[rule]]\naction = "clear"\nport = [0, 65536, "9-8", "x", 1.5]',
      ['0', '65536', '"9-8"', '"x"', '1.5'].map((port) => `3: ${port} is not a port`),
    ],
    [
      'networks that are none',
      '[[rule]]\naction = "clear"\nnetwork = ["10.0.0.0/33", "::/129", "example.org", "fe80::1%eth0"]',
      ['10.0.0.0/33', '::/129', 'example.org', 'fe80::1%eth0'].map((text) => `3: "${text}" is not a network`),
    ],
    [
      'a cgroup that leads elsewhere',
      `[[rule]]\naction = "clear"\ncgroup = ["a", "/a/../b", '/a"b']`,
      ['"a"', '"/a/../b"', '"/a\\"b"'].map((text) => `3: ${text} is not a cgroup`),
    ],
    [
      'a user who does not exist',
      '[[rule]]\naction = "clear"\nuser = ["no-such-user", "-c"]',
      ['3: there is no user "no-such-user"', '3: there is no user "-c"'],
    ],
    [
      'a user, inbound',
      '[[rule]]\naction = "clear"\nuser = 0\ndirection = "both"',
      ['4: who owns a listening socket is not known when a connection comes in'],
    ],
    [
      'encryption within the host',
      '[[rule]]\naction = "private"\nnetwork = "127.0.0.0/16"',
      ['3: connections within this host do not leave it and are not encrypted'],
    ],
    [
      'several, by line',
      '[[rule]]\nport = 0\naction = "clear"\nnetwork = "x"\n[[rule]]\naction = "clear"\nport = "y"',
      ['2: 0 is not a port', '4: "x" is not a network', '7: "y" is not a port'],
    ],
  ];
  for (const [name, text, expected] of MISTAKES)
    test(`${name}: refused, with line and remedy`, () => assert.deepEqual(problems(text), expected));

  test('more rules than there is room for are refused', () => {
    assert.match(problems('[[rule]]\naction = "clear"\n'.repeat(1001))[0] ?? '', /does not fit "rule"/);
  });

  test('what is probably not meant is noted', () => {
    const result = checkPolicy(
      'default = "private"\n[[rule]]\naction = "clear"\n[[rule]]\naction = "block"\nport = 3',
      '',
    );
    assert.ok(result.ok);
    assert.deepEqual(
      result.notes.map(({ line, problem }) => `${line}: ${problem}`),
      ['4: rule 2 is never asked', '1: ports of services that encrypt by themselves (22, 443, …) stay clear'],
    );
  });
});

describe('what a policy says', () => {
  test('the first rule that matches decides; then the exceptions; then the default', () => {
    const full = policy(FULL);
    assert.equal(action(full, { peer: network('10.1.2.3'), port: 5432, uid: 1000 }), 'private');
    assert.equal(action(full, { peer: network('10.2.2.3'), port: 5432, uid: 0 }), 'block');
    assert.equal(action(full, { peer: network('10.2.2.3'), port: 85, uid: 1000 }), 'clear');
    assert.equal(action(full, { peer: network('10.2.2.3'), port: 91, uid: 1000 }), 'private');
    const inbound = {
      direction: 'inbound',
      peer: network('fd00::1'),
      cgroup: '/system.slice/app.service/x',
    } as const;
    assert.equal(action(full, { ...inbound, port: 53 }), 'clear');
    assert.equal(action(full, { ...inbound, port: 54 }), 'private-or-clear');
    assert.equal(
      action(full, { ...inbound, port: 53, cgroup: '/system.slice/app.service2' }),
      'private-or-clear',
    );
  });

  test('built in: what is encrypted anyway, multicast and the host itself are clear', () => {
    assert.equal(action(BUILT_IN, { peer: network('192.0.2.1'), port: 443 }), 'clear');
    assert.equal(action(BUILT_IN, { peer: network('192.0.2.1'), port: 444 }), 'private-or-clear');
    assert.equal(action(BUILT_IN, { peer: network('ff02::1'), port: 444 }), 'clear');
    assert.equal(action(BUILT_IN, { peer: network('127.0.0.1'), port: 444, thisHost: true }), 'clear');
    assert.equal(action(withClearPorts(BUILT_IN, [444]), { peer: network('192.0.2.1'), port: 444 }), 'clear');
  });

  test('within the host nothing is encrypted, whatever the rules say; outbound rules can block', () => {
    const local = { peer: network('127.0.0.1'), thisHost: true };
    const strict = policy('[[rule]]\naction = "block"\nport = 7\n[[rule]]\naction = "private"');
    assert.equal(action(strict, { ...local, port: 8 }), 'clear');
    assert.equal(action(strict, { ...local, port: 7 }), 'block');
    assert.equal(action(strict, { ...local, port: 7, direction: 'inbound' }), 'clear');
    assert.equal(action(strict, { peer: network('192.0.2.1'), port: 8 }), 'private');
  });

  test('no address as destination is the loopback address', () => {
    const blocks = policy('[[rule]]\naction = "block"\nnetwork = ["127.0.0.0/8", "::1"]');
    for (const nowhere of ['0.0.0.0', '::']) {
      assert.equal(action(blocks, { peer: network(nowhere), port: 444 }), 'block');
      assert.equal(action(BUILT_IN, { peer: network(nowhere), port: 444 }), 'clear');
    }
  });

  test('rules about what the question does not tell leave it open', () => {
    const { action: found, open } = explain(policy(FULL), {
      direction: 'outbound',
      peer: network('10.2.0.1'),
      port: 9,
    });
    assert.equal(found, 'private');
    assert.deepEqual(
      open.map(({ number, why }) => [number, why]),
      [[2, 'user root, 65534']],
    );
  });

  test('only private and block stay in force without a daemon', () => {
    assert.equal(mustStay(kernelRules(BUILT_IN)), false);
    assert.equal(mustStay(kernelRules(policy('[[rule]]\naction = "clear"'))), false);
    assert.equal(mustStay(kernelRules(policy('[[rule]]\naction = "block"\nport = 1'))), true);
    assert.equal(mustStay(kernelRules(policy('default = { inbound = "private" }'))), true);
  });
});

describe('networks', () => {
  test('host bits are dropped, IPv4-mapped is IPv4, an address alone is itself', () => {
    assert.equal(networkText(network('10.1.2.3/9')), '10.0.0.0/9');
    assert.equal(networkText(network('::ffff:10.1.2.3/104')), '10.0.0.0/8');
    assert.equal(networkText(network('fd12:3456::1/20')), 'fd12:3000::/20');
    assert.equal(networkText(network('192.0.2.7')), '192.0.2.7/32');
    assert.equal(networkText(network('0.0.0.0/0')), '0.0.0.0/0');
    assert.equal(networkText(network('::/0')), '::/0');
  });

  test('one contains another of its family only', () => {
    assert.ok(contains(network('10.0.0.0/8'), network('10.200.0.0/16')));
    assert.ok(!contains(network('10.200.0.0/16'), network('10.0.0.0/8')));
    assert.ok(!contains(network('::/0'), network('10.0.0.1')));
    assert.ok(contains(network('0.0.0.0/0'), network('10.0.0.1')));
  });

  test('without overlaps, as nft wants them', () => {
    const texts = ['10.1.0.0/16', '10.0.0.0/8', '10.0.0.0/8', 'fd00::/8', 'fd00::1', '::ffff:10.9.0.0/112'];
    assert.deepEqual(disjoint(texts.map(network)).map(networkText), ['10.0.0.0/8', 'fd00::/8']);
    const ranges = merged([
      [90, 95],
      [1, 3],
      [2, 9],
      [10, 11],
      [90, 91],
    ]);
    assert.deepEqual(ranges, [
      [1, 11],
      [90, 95],
    ]);
  });
});

describe('tcpcrypt policy', () => {
  const file = (text: string): string => {
    const path = join(directory, 'policy.toml');
    writeFileSync(path, text);
    return path;
  };
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [main, 'policy', ...args], { encoding: 'utf8' });

  test('check: exit code 0, or 1 with the problems', () => {
    const good = run('check', file(FULL));
    assert.equal(good.status, 0);
    assert.match(good.stdout, /3 rules, default private outbound, private-or-clear inbound\n$/);
    const path = file('[[rule]]\naction = "clear"\nport = 0\n');
    const bad = run('check', path, '--json');
    assert.equal(bad.status, 1);
    const remedy = '1 to 65535, or a range such as "6000-6010"';
    assert.deepEqual(JSON.parse(bad.stdout), {
      ok: false,
      file: path,
      problems: [{ line: 3, problem: '0 is not a port', remedy }],
    });
    assert.equal(run('check', path).stdout, `${path}:3: 0 is not a port: ${remedy}\n`);
    assert.match(run('check', '/no/such/file').stderr, /cannot read \/no\/such\/file: ENOENT/);
  });

  test('explain: the action, the rule and the reason', () => {
    const explained = execFileSync(
      process.execPath,
      [main, 'policy', 'explain', '--policy', file(FULL), '--to', '10.1.2.3:5432', '--json'],
      { encoding: 'utf8' },
    );
    const { action: found, decided } = JSON.parse(explained) as {
      action: string;
      decided: Record<string, unknown>;
    };
    assert.equal(found, 'private');
    assert.equal(decided.rule, 1);
    assert.equal(decided.line, 5);
    assert.equal(decided.name, 'database');
    const { stdout } = run('explain', '--policy', file(FULL), '--to', '[2001:db8::1]:25');
    assert.match(stdout, /private \(encrypted, or refused\)/);
    assert.match(stdout, /rule 2 \(.*policy.toml:12\) applies, for user root, 65534: block/);
    assert.equal(run('explain', '--to', 'example.org:25').status, 2);
  });
});
