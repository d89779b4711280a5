/**
 * What `tcpcrypt policy explain` says of a connection is what the kernel does with it: random policies, random connections,
 * of programs with different owners and cgroups, and real SYNs. POLICY_RUNS and POLICY_SEED: more policies; the same again.
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { explain } from '#src/daemon/policy/explain.js';
import { kernelRules } from '#src/daemon/policy/kernel-rules.js';
import { parseNetwork } from '#src/daemon/policy/network.js';
import { ACTIONS, type Policy, type PolicyAction } from '#src/daemon/policy/policy.js';
import { checkPolicy } from '#src/daemon/policy/policy-file.js';
import { cgroupRoot } from '#src/kernel/cgroup.js';
import { policyTable } from '#src/kernel/policy-rules.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import { skip } from './support/pair.js';
import { policyFile } from './support/policies.js';
import { type Syn, SynSender, SynWatch } from './support/syns.js';

const main = fileURLToPath(import.meta.resolve('#src/cli/main.js'));
const RUNS = Number(process.env.POLICY_RUNS ?? 40);
const SEED = Number(process.env.POLICY_SEED ?? Date.now() % 1_000_000_000);
/** Connections for each policy. */
const QUESTIONS = 12;

/** Within the host, of alice herself, near and far, and of what begins with "0" or ends with it. */
const ADDRESSES = [
  ...[
    '127.0.0.1',
    '127.9.9.9',
    '10.69.1.1',
    '10.69.2.1',
    '10.69.2.255',
    '10.1.2.3',
    '10.1.2.4',
    '11.0.0.0',
    '192.0.2.77',
  ],
  ...[
    '::1',
    'fd69:1::1',
    'fd69:2::1',
    'fd69:2::ffff',
    'fd00:1::1',
    '2001:db8::',
    '2001:db8::8000:0:0:1',
    '64:ff9b::a01:203',
  ],
  ...['::ffff:10.1.2.3', '::ffff:127.0.0.1', '::ffff:192.0.2.77', '0.0.0.0', '::'],
];
const LISTENING = [[7001, 7002], [7003], [443, 7004]] as const;
const PORTS = [...LISTENING.flat(), 22, 7000, 7005, 7010, 65535];
/** So that conditions on the local port decide something. */
const LOCAL_PORTS = [1023, 1024, 6000, 6001, 6010, 6011, 6100, 65535];
const UIDS = [0, 1, 65534, 54321];

const networks = fc.oneof(
  fc
    .tuple(fc.constantFrom(...ADDRESSES), fc.double({ min: 0, max: 1, noNaN: true }))
    .map(([address, part]) => {
      const bits = isIPv4(address) ? 32 : 128;
      return `${address}/${Math.round(part * bits)}`;
    }),
  fc.constantFrom(...ADDRESSES),
  fc.constantFrom(
    '10.0.0.0/8',
    '0.0.0.0/0',
    '::/0',
    'fd00::/8',
    '::ffff:10.0.0.0/104',
    '::ffff:0:0/96',
    '224.0.0.0/4',
  ),
);
const ports = (of: readonly number[]) =>
  fc.oneof(
    fc.constantFrom(...of),
    fc
      .tuple(fc.constantFrom(...of), fc.nat(20))
      .map(([first, more]) => `${first}-${Math.min(first + more, 65535)}`),
  );
const some = <T>(one: fc.Arbitrary<T>) =>
  fc.option(fc.array(one, { minLength: 1, maxLength: 4 }), { nil: undefined });
const action = fc.constantFrom(...ACTIONS);

const rule = fc
  .record({
    action,
    direction: fc.constantFrom(undefined, 'outbound', 'inbound', 'both'),
    network: some(networks),
    port: some(ports(PORTS)),
    'local-port': fc.oneof(
      { weight: 3, arbitrary: fc.constant(undefined) },
      some(ports([...LOCAL_PORTS, ...PORTS])),
    ),
    user: fc.oneof(
      { weight: 2, arbitrary: fc.constant(undefined) },
      some(fc.constantFrom(...UIDS, 'root', 'nobody')),
    ),
    cgroup: fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, some(fc.nat(3))),
  })
  .map((shape) => (shape.user === undefined ? shape : { ...shape, direction: 'outbound' as const }));

const file = fc.record({
  default: fc.oneof(action, fc.record({ outbound: action, inbound: action })),
  except: fc.option(fc.array(ports(PORTS), { maxLength: 3 }), { nil: undefined }),
  rules: fc.array(rule, { maxLength: 8 }),
});

const outgoing = fc.uniqueArray(
  fc.record({
    to: fc.constantFrom(...ADDRESSES),
    toPort: fc.constantFrom(...PORTS),
    fromPort: fc.constantFrom(...LOCAL_PORTS),
    uid: fc.constantFrom(...UIDS),
    program: fc.nat(2),
  }),
  { maxLength: QUESTIONS, selector: ({ toPort, fromPort }) => `${fromPort} ${toPort}` },
);
const incoming = fc.array(
  fc.record({ from: fc.constantFrom(...ADDRESSES), toPort: fc.constantFrom(...PORTS) }),
  { maxLength: QUESTIONS },
);

const toml = (value: unknown): string =>
  typeof value === 'object' && !Array.isArray(value) && value !== null
    ? `{ ${Object.entries(value)
        .map(([key, one]) => `${key} = ${toml(one)}`)
        .join(', ')} }`
    : JSON.stringify(value);

/** Every action was the right answer at times, and there were many questions. */
function assertAll(seen: ReadonlyMap<PolicyAction, number>): void {
  const counts = JSON.stringify([...seen]);
  assert.equal(seen.size, ACTIONS.length, counts);
  assert.ok([...seen.values()].reduce((sum, count) => sum + count, 0) > 2 * RUNS, counts);
}

describe('policy explain, and the kernel', { skip }, () => {
  let lab: Lab;
  let alice: Host;
  let watch: SynWatch;
  /** As the policy names them: two beside each other, one below the first; the last one has no programs. */
  let cgroups: string[];
  let programs: SynSender[];
  let far: SynSender;

  before(async () => {
    lab = await Lab.create();
    alice = lab.host('alice');
    for (const family of ['-4', '-6'])
      lab.router.enter('ip', [family, 'route', 'add', 'blackhole', 'default']);
    alice.enter('sysctl', [
      '-qw',
      'net.ipv4.ip_unprivileged_port_start=0',
      'net.ipv4.conf.all.route_localnet=1',
    ]);
    const directories = ['one', 'two', 'one/below', 'three'].map((name) => join(alice.cgroup, name));
    for (const directory of directories) mkdirSync(directory);
    cgroups = directories.map((directory) => directory.slice((cgroupRoot() ?? '').length));
    watch = new SynWatch(alice);
    programs = [];
    for (const [i, listening] of LISTENING.entries())
      programs.push(
        await SynSender.start(alice, 'listen', { cgroup: directories[i] ?? '', ports: listening }),
      );
    far = await SynSender.start(lab.router, 'forge');
  });
  after(() => lab?.destroy());

  const textOf = ({
    default: fallback,
    except,
    rules,
  }: typeof file extends fc.Arbitrary<infer T> ? T : never) =>
    [
      `default = ${toml(fallback)}`,
      ...(except === undefined ? [] : [`except-ports = ${toml(except)}`]),
      ...rules.flatMap(({ cgroup, ...others }) => [
        '[[rule]]',
        ...Object.entries({ ...others, cgroup: cgroup?.map((i) => cgroups[i]) })
          .filter(([, value]) => value !== undefined)
          .map(([key, value]) => `${key} = ${toml(value)}`),
      ]),
    ].join('\n');

  const inForce = (text: string): Policy | undefined => {
    const checked = checkPolicy(text, 'policy.toml');
    if (!checked.ok) return undefined;
    alice.enter('nft', ['-f', '-'], policyTable(kernelRules(checked.policy)));
    return checked.policy;
  };

  const OWN = ['127.0.0.0/8', '::1', '10.69.1.1', 'fd69:1::1', '0.0.0.0', '::'];
  const isOwn = (address: string): boolean => OWN.includes(address) || address.includes('127.');

  /** The command's own words, for one connection. */
  const said = async (text: string, ...words: string[]): Promise<PolicyAction> => {
    const { stdout, stderr } = await alice.run(process.execPath, [
      ...[main, 'policy', 'explain', '--json', '--policy', policyFile(lab, text), ...words],
    ]);
    assert.equal(stderr, '');
    return (JSON.parse(String(stdout)) as { action: PolicyAction }).action;
  };
  const endpoint = (address: string, port: number): string =>
    `${isIPv4(address) ? address : `[${address}]`}:${port}`;

  test(`connections that programs here open (seed ${SEED})`, async () => {
    const seen = new Map<PolicyAction, number>();
    await fc.assert(
      fc.asyncProperty(file, outgoing, async (written, connections) => {
        const text = textOf(written);
        const policy = inForce(text);
        fc.pre(policy !== undefined);
        const became = [];
        for (const { program, ...syn } of connections)
          became.push(...((await programs[program]?.send([syn])) ?? []));
        const marked = watch.take('out');
        for (const [i, connection] of connections.entries()) {
          const action = marked(connection);
          // The kernel itself does not want it: no route, a port that is taken, …
          if (action === undefined) continue;
          const { to, toPort, fromPort, uid, program } = connection;
          const peer = parseNetwork(to);
          assert.ok(peer !== undefined);
          const about = { direction: 'outbound', peer, port: toPort, localPort: fromPort, uid } as const;
          const explained = explain(policy, {
            ...about,
            cgroup: cgroups[program] ?? '',
            thisHost: isOwn(to),
          });
          const what: string = `${JSON.stringify(connection)} ${became[i]}\n${text}`;
          assert.equal(explained.action, action, what);
          assert.deepEqual(explained.open, [], what);
          seen.set(action, (seen.get(action) ?? 0) + 1);
          const refused = action === 'block' || action === 'private';
          if (!isOwn(to)) assert.equal(became[i], refused ? 'ECONNREFUSED' : 'EINPROGRESS', what);
        }
        const [one] = connections;
        if (one === undefined || marked(one) === undefined || Math.abs(fc.hash(text)) % 8 > 0) return;
        const words = [
          '--to',
          endpoint(one.to, one.toPort),
          '--from',
          endpoint(isIPv4(one.to) ? '10.69.1.1' : 'fd69:1::1', one.fromPort),
        ];
        const whose = ['--user', `${one.uid}`, '--cgroup', cgroups[one.program] ?? ''];
        assert.equal(
          await said(text, ...words, ...whose),
          marked(one),
          `explain ${words.join(' ')} ${whose.join(' ')}\n${text}`,
        );
      }),
      { seed: SEED, numRuns: RUNS, interruptAfterTimeLimit: 60_000 },
    );
    assertAll(seen);
  });

  test(`connections that come in (seed ${SEED})`, async () => {
    const seen = new Map<PolicyAction, number>();
    // Each from a port of its own: where the kernel finds half a connection already, it does not look for the listener's cgroup.
    let nextPort = 1024;
    await fc.assert(
      fc.asyncProperty(file, incoming, async (written, connections) => {
        const text = textOf(written);
        const policy = inForce(text);
        fc.pre(policy !== undefined);
        const plain = connections
          .filter(({ from }) => !isOwn(from))
          .map(({ from, toPort }): Syn => {
            const source = from.replace('::ffff:', ''); // on the wire there is no such thing
            nextPort = nextPort === 65535 ? 1024 : nextPort + 1;
            return {
              toPort,
              fromPort: nextPort,
              from: source,
              to: isIPv4(source) ? alice.address4 : alice.address6,
            };
          });
        await far.send(plain);
        const [came, passed] = [watch.take('coming'), watch.take('in')];
        for (const syn of plain) {
          const { from = '', toPort } = syn;
          if (came(syn) === undefined) continue;
          const action = passed(syn) ?? 'block';
          const peer = parseNetwork(from);
          assert.ok(peer !== undefined);
          const listener = LISTENING.findIndex((of) => (of as readonly number[]).includes(toPort));
          const explained = explain(policy, {
            ...{ direction: 'inbound', peer, port: toPort, thisHost: false },
            ...(listener < 0 ? {} : { cgroup: cgroups[listener] ?? '' }),
          });
          assert.equal(explained.action, action, `${JSON.stringify(syn)}\n${text}`);
          seen.set(action, (seen.get(action) ?? 0) + 1);
        }
        const [one] = plain;
        if (one === undefined || came(one) === undefined || Math.abs(fc.hash(text)) % 8 > 0) return;
        const listener = LISTENING.findIndex((of) => (of as readonly number[]).includes(one.toPort));
        const words = [
          '--inbound',
          '--from',
          endpoint(one.from ?? '', one.fromPort),
          '--to',
          endpoint(one.to, one.toPort),
        ];
        if (listener >= 0) words.push('--cgroup', cgroups[listener] ?? '');
        assert.equal(
          await said(text, ...words),
          passed(one) ?? 'block',
          `explain ${words.join(' ')}\n${text}`,
        );
      }),
      { seed: SEED, numRuns: RUNS, interruptAfterTimeLimit: 60_000 },
    );
    assertAll(seen);
  });
});
