/**
 * A host that has rules of its own, as Docker and a host firewall make them, and a container behind a bridge:
 *
 *     alice [daemon] ──── router ──── [daemon] bob ── docker0 ── container
 *                                       8080 → container:80, and a proxy that listens on 8080
 */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import type { DaemonProcess } from '#src/demo/daemons.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { eventually, Pair, python, skip } from './support/pair.js';
import { MANY } from './support/probe.js';
import { rulesOf } from './support/rules.js';

const CONTAINER = '172.17.0.2';
/** Alice's rules translate it to bob's. */
const SERVICE = '10.96.0.1';

/** What Docker 24 makes for `docker run -p 8080:80`. */
const DOCKER = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s ${CONTAINER}/32 -d ${CONTAINER}/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination ${CONTAINER}:80
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m tcp --dport 7000:7999 -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d ${CONTAINER}/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*mangle
-A OUTPUT -p tcp -m tcp --dport 7777 -j MARK --set-xmark 0x1/0xff
COMMIT
*raw
-A PREROUTING -p tcp -m tcp --dport 9 -j DROP
COMMIT
`;

/** And an nftables table of the administrator's, on the hooks that ours are on. */
const NFT = `table inet admin {
  chain out { type filter hook output priority -150; policy accept; tcp dport 7778 counter; }
  chain in { type filter hook prerouting priority -150; policy accept; tcp dport 7778 counter; }
}`;

describe('beside the rules of others', { skip }, () => {
  let pair: Pair;
  let container: string;
  let pristine: string;
  before(async () => {
    pair = await Pair.open('neither end');
    const { bob } = pair;
    container = `${bob.namespace}-c1`; // goes with the lab
    bob.enter('ip', ['netns', 'add', container]);
    bob.enter(
      'ip',
      ['-batch', '-'],
      `link add docker0 type bridge
address add 172.17.0.1/16 dev docker0
link set docker0 up
link add veth0 type veth peer name eth0 netns ${container}
link set veth0 master docker0 up
`,
    );
    bob.enter(
      'ip',
      ['-n', container, '-batch', '-'],
      `address add ${CONTAINER}/16 dev eth0
link set lo up
link set eth0 up
route add default via 172.17.0.1
`,
    );
    bob.enter('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
    bob.enter('iptables-restore', [], DOCKER);
    bob.enter('nft', ['-f', '-'], NFT);
    // In the container, and where Docker's proxy listens. Both answer with the address of their peer.
    bob.spawn('nsenter', [`--net=/run/netns/${container}`, ...python(MANY, 'serve', '80', 'client').flat()], {
      stdio: 'ignore',
    });
    bob.spawn(...python(MANY, 'serve', '8080', 'client'), { stdio: 'ignore' });
    await bob.waitForListener(8080);
    pair.alice.enter('iptables', [
      ...['-t', 'nat', '-A', 'OUTPUT', '-d', SERVICE, '-p', 'tcp'],
      ...['-j', 'DNAT', '--to-destination', bob.address4],
    ]);
    pair.kernelPart(pair.alice);
    pair.kernelPart(bob);
    await eventually(() => call(bob, CONTAINER, 80)); // neighbours and routes are learnt
    pristine = rulesOf(bob);
  });
  after(() => pair?.close());

  async function start(): Promise<DaemonProcess[]> {
    pair.onAlice = await pair.daemon(pair.alice);
    pair.onBob = await pair.daemon(pair.bob);
    return [pair.onAlice, pair.onBob];
  }

  const ONE = `
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=8) as c:
    c.sendall(b'hello')
    print(c.makefile().readline().split()[0], end='')
`;
  /** @returns the address that the server saw */
  async function call(from: Host, address: string, port: number): Promise<string> {
    const { code, stdout, stderr } = await from.run(...python(ONE, address, `${port}`));
    assert.equal(code, 0, stderr);
    return String(stdout);
  }

  async function everythingWorks(encrypted: boolean): Promise<void> {
    const { alice, bob } = pair;
    // A published port: the container answers, and sees the client.
    for (let i = 0; i < 3; i++) assert.equal(await call(alice, bob.address4, 8080), alice.address4);
    // From the host to its container, by the container's address and by its own.
    assert.equal(await call(bob, CONTAINER, 80), '172.17.0.1');
    assert.match(await call(bob, bob.address4, 8080), /^(172\.17\.0\.1|10\.69\.2\.1)$/);
    // From the container to the world, behind the host's address.
    alice.spawn(...python(MANY, 'serve', '7101', 'client'), { stdio: 'ignore' });
    await alice.waitForListener(7101);
    const [command, args] = python(ONE, alice.address4, '7101');
    const { stdout, stderr } = await bob.run('nsenter', [`--net=/run/netns/${container}`, command, ...args]);
    assert.equal(String(stdout), bob.address4, stderr);
    // And a service of the host itself.
    bob.spawn(...python(MANY, 'serve', '7102', 'client'), { stdio: 'ignore' });
    await bob.waitForListener(7102);
    assert.equal(await call(alice, bob.address4, 7102), alice.address4);
    // By the address of a service, as Kubernetes has them.
    assert.equal(await call(alice, SERVICE, 7102), alice.address4);
    if (encrypted)
      await pair.onBob?.line(({ event, local }) => event === 'secure' && local === `${bob.address4}:7102`);
    if (encrypted)
      await pair.onAlice?.line(({ event, remote }) => event === 'secure' && remote === `${SERVICE}:7102`);
  }

  for (const signal of ['SIGTERM', 'SIGKILL'] as const)
    test(`everything works with daemons, and is as before after ${signal}`, async () => {
      const daemons = await start();
      await everythingWorks(true);
      for (const daemon of daemons) await daemon.stop(signal);
      await eventually(() => assert.equal(rulesOf(pair.bob), pristine));
      await everythingWorks(false);
    });

  test('rules that others add, change and remove while a daemon runs stay as they made them', async () => {
    const { bob } = pair;
    const [onAlice, onBob] = await start();
    bob.enter('iptables', ['-t', 'nat', '-A', 'DOCKER', '-p', 'tcp', '--dport', '8081', '-j', 'RETURN']);
    bob.enter('iptables', ['-t', 'mangle', '-I', 'OUTPUT', '-p', 'tcp', '--dport', '9', '-j', 'DROP']);
    bob.enter('nft', ['add', 'table', 'ip', 'later']);
    await everythingWorks(true);
    await onAlice?.stop();
    await onBob?.stop();
    assert.match(rulesOf(bob), /--dport 8081 -j RETURN/);
    bob.enter('iptables', ['-t', 'nat', '-D', 'DOCKER', '-p', 'tcp', '--dport', '8081', '-j', 'RETURN']);
    bob.enter('iptables', ['-t', 'mangle', '-D', 'OUTPUT', '-p', 'tcp', '--dport', '9', '-j', 'DROP']);
    bob.enter('nft', ['delete', 'table', 'ip', 'later']);
    assert.equal(rulesOf(bob), pristine);
  });

  test('"nft flush ruleset" while connections are relayed: they are reset, the next ones are encrypted again', async () => {
    const { alice } = pair;
    const [onAlice, onBob] = await start();
    const capture = await Capture.start(pair.lab, alice);
    const source = `
import socket, sys
c = socket.create_connection((sys.argv[1], 7102))
c.sendall(b'BEFORE' * 10)
c.recv(100)
print('open', flush=True)
try:
    while c.recv(100): pass
    print('end', flush=True)
except ConnectionResetError: print('reset', flush=True)
`;
    const client = alice.spawn(...python(source, pair.bob.address4), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const said: string[] = [];
    assert.ok(client.stdout);
    createInterface({ input: client.stdout }).on('line', (line) => said.push(line));
    await eventually(() => assert.deepEqual(said, ['open']));
    alice.enter('nft', ['flush', 'ruleset']);
    await eventually(() => assert.deepEqual(said, ['open', 'reset']));
    await onAlice?.line(({ event }) => event === 'rules-lost');
    await eventually(() => assert.match(alice.enter('nft', ['list', 'tables']), /table inet tcpcrypt\n/));
    await eventually(() => assert.match(alice.enter('iptables-save', []), /--queue-num/));
    pair.forget();
    assert.equal(await call(alice, pair.bob.address4, 7102), alice.address4);
    await onAlice?.line(({ event }) => event === 'secure');
    const wire = Buffer.concat((await capture.stop()).map(({ payload }) => payload));
    assert.ok(!wire.includes('BEFORE') && !wire.includes('hello'));
    // The iptables rule alone: nothing is reset for that.
    alice.enter('iptables', ['-t', 'raw', '-F', 'OUTPUT']);
    await eventually(() => assert.match(alice.enter('iptables-save', []), /--queue-num/));
    await onAlice?.stop();
    await onBob?.stop();
    assert.equal(alice.enter('nft', ['list', 'ruleset']).trim(), '');
  });
});
