import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { MARK } from '#src/kernel/packet-marks.js';
import type { PolicyRule } from '#src/kernel/policy-rules.js';
import { type Agent, CLIENT, CLIENT6, type Host, Network, SERVER, SERVER6 } from './support/network.js';

const QUEUE = 4001;
const PORT = 7100;
const EXCEPTED_PORT = 7200;
const CLOSED_PORT = 7300;
const RELAY_PORT = 6969;
const INBOUND_PORT = 6970;
const PRIVATE_PORT = 6971;
const EXCEPT: readonly PolicyRule[] = [
  { action: 'clear', ports: [[EXCEPTED_PORT, EXCEPTED_PORT]] },
  { action: 'private-or-clear' },
];
const OPTIONS = {
  queue: QUEUE,
  relayPort: RELAY_PORT,
  inboundPort: INBOUND_PORT,
  privatePort: PRIVATE_PORT,
  policy: { outbound: EXCEPT, inbound: EXCEPT },
};
const SYN_AGAIN = 1000;

const network = new Network();
let application: Agent;
let daemon: Agent;
let server: Agent;

before(() => {
  application = network.agent('client');
});
after(() => network.close());

/** Everything that install may change, as the tools show it. Counters are included; comment lines hold the time. */
const state = (host: Host, where = network): string =>
  where
    .sh(
      host,
      `for command in 'nft list ruleset' iptables-save 'iptables-save -c' ip6tables-save 'ip6tables-save -c' \\
         'ip rule' 'ip -6 rule' 'ip route show table all' 'ip -6 route show table all'
       do echo "== $command"; $command 2>&1 | grep -v '^#' || :; done`,
    )
    .trim();

describe('outbound', () => {
  let original: string;
  before(async () => {
    server = network.agent('server');
    await server.listen({ name: 'server', host: '::', port: PORT });
    await server.listen({ name: 'excepted', host: '::', port: EXCEPTED_PORT });
    original = state('client');
    daemon = network.agent('client');
    await daemon.listen({ name: 'relay', host: '127.0.0.1', port: RELAY_PORT, transparent: true });
    await daemon.listen({ name: 'relay6', host: '::1', port: RELAY_PORT, transparent: true });
    await daemon.installSteering(OPTIONS);
  });
  beforeEach(() => daemon.openQueue(QUEUE, 'accept'));
  afterEach(() => daemon.closeQueue());
  after(async () => {
    await daemon.uninstallSteering();
    assert.equal(state('client'), original);
    await daemon.kill('SIGKILL');
    await server.kill('SIGKILL');
  });

  for (const { family, host, client } of [
    { family: 'IPv4', host: SERVER, client: CLIENT },
    { family: 'IPv6', host: SERVER6, client: CLIENT6 },
  ]) {
    test(`${family}: a SYN that is accepted as it is makes a native connection`, async () => {
      const { greeting, echoed } = await application.connect({ host, port: PORT });
      assert.equal(greeting, `server ${client} ${host}:${PORT}`);
      assert.equal(echoed, 'ping');
      const [syn, ...rest] = await daemon.takeSeen();
      assert.equal(syn?.destination, host);
      assert.equal(syn?.mark, MARK.ENCRYPT);
      assert.deepEqual(rest, []);
    });

    test(`${family}: with mark REDIRECT it lands at the relay port, which learns the destination`, async () => {
      await daemon.setVerdict('redirect');
      const { greeting, echoed } = await application.connect({ host, port: PORT });
      const relay = family === 'IPv4' ? 'relay' : 'relay6';
      assert.equal(greeting, `${relay} ${client} ${host}:${PORT}`);
      assert.equal(echoed, 'ping');
    });

    test(`${family}: with mark REFUSE the application gets ECONNREFUSED at once`, async () => {
      await daemon.setVerdict('refuse');
      const { error, milliseconds } = await application.connect({ host, port: PORT });
      assert.equal(error, 'ECONNREFUSED');
      assert.ok(milliseconds < 500);
    });
  }

  test('marks of others are kept beside ours, and do not keep a SYN from the queue', async () => {
    await daemon.setVerdict('redirect');
    const { greeting } = await application.connect({ host: SERVER, port: PORT, mark: 0x00ffffff });
    assert.match(greeting, /^relay /);
    assert.equal((await daemon.takeSeen())[0]?.mark, (0x00ffffff | MARK.ENCRYPT) >>> 0);
  });

  test('what was to be redirected but cannot be is refused, never sent in plaintext', async () => {
    await daemon.unlisten('relay');
    await daemon.setVerdict('redirect');
    const { error } = await application.connect({ host: SERVER, port: PORT });
    await daemon.listen({ name: 'relay', host: '127.0.0.1', port: RELAY_PORT, transparent: true });
    assert.equal(error, 'ECONNREFUSED');
  });

  test('a port that is used again is a new connection: the verdict on the former one does not stick', async () => {
    // The server resets it, so the port is free at once, and connection tracking does not take a SYN for new.
    const again = { host: SERVER, port: PORT, localPort: 50001, data: 'reset' };
    for (const [verdict, name] of [
      ['accept', 'server'],
      ['redirect', 'relay'],
      ['accept', 'server'],
    ] as const) {
      await daemon.setVerdict(verdict);
      assert.equal((await application.connect(again)).greeting.split(' ')[0], name);
    }
  });

  test('a SYN that is sent again late does not break the connection that the first one made', async () => {
    network.sh('client', blockRst);
    await daemon.setVerdict('redirect');
    const exchange = application.rawExchange({
      ...{ source: CLIENT, sourcePort: 61010, destination: SERVER, port: PORT, eno: false },
      ...{ data: 'ping', synAgain: true },
    });
    while ((await daemon.takeSeen()).length === 0) await daemon.sleep(5);
    await daemon.setVerdict('accept');
    const { text } = await exchange;
    network.sh('client', unblockRst);
    assert.equal((await daemon.takeSeen()).length, 1);
    assert.match(text, /^relay .*\nping$/);
  });

  test("not held: excepted ports, the daemon's own sockets, connections within the host", async () => {
    await daemon.setVerdict('refuse');
    assert.match((await application.connect({ host: SERVER, port: EXCEPTED_PORT })).greeting, /^excepted/);
    const own = { host: SERVER, port: PORT, mark: MARK.DAEMON_SOCKET };
    assert.match((await application.connect(own)).greeting, /^server/);
    assert.match((await application.connect({ host: '127.0.0.1', port: RELAY_PORT })).greeting, /^relay/);
    assert.deepEqual(await daemon.takeSeen(), []);
  });

  test('not held: a SYN that carries an ENO option; without it, it is', async () => {
    const attempt = { source: CLIENT, destination: SERVER, port: CLOSED_PORT, patience: 200 };
    network.sh('client', blockRst);
    assert.equal((await application.rawExchange({ ...attempt, sourcePort: 61001, eno: true })).answer, 'rst');
    assert.deepEqual(await daemon.takeSeen(), []);
    assert.equal(
      (await application.rawExchange({ ...attempt, sourcePort: 61002, eno: false })).answer,
      'rst',
    );
    assert.equal((await daemon.takeSeen())[0]?.sourcePort, 61002);
    network.sh('client', unblockRst);
  });

  test('an ECN SYN is held like any other, a SYN-ACK is not', async () => {
    network.sh('client', 'echo 1 > /proc/sys/net/ipv4/tcp_ecn');
    await application.connect({ host: SERVER, port: PORT });
    network.sh('client', 'echo 2 > /proc/sys/net/ipv4/tcp_ecn');
    assert.equal((await daemon.takeSeen()).length, 1);
    await application.listen({ name: 'application', host: '0.0.0.0', port: PORT });
    const remote = network.agent('server');
    assert.match((await remote.connect({ host: CLIENT, port: PORT })).greeting, /^application/);
    assert.deepEqual(await daemon.takeSeen(), []);
    await application.unlisten('application');
    await remote.kill('SIGKILL');
  });

  test('without a process at the queue, SYNs pass', async () => {
    await daemon.closeQueue();
    const { greeting, milliseconds } = await application.connect({ host: SERVER, port: PORT });
    assert.match(greeting, /^server/);
    assert.ok(milliseconds < 500);
  });
});

/** The client's kernel knows nothing of connections made by hand, and would reset them (its RST has window 0). Dropped before connection tracking sees it. */
const blockRst = `nft -f - <<'END'
table inet by_hand { chain output { type filter hook output priority -310; tcp sport 61000-61999 tcp flags & rst != 0 tcp window 0 drop; }; }
END`;
const unblockRst = 'nft delete table inet by_hand';

describe('inbound', () => {
  let original: string;
  let sourcePort = 61100;
  let real: Agent;

  const exchange = (family: 4 | 6, port: number, eno: boolean) => {
    sourcePort += 2;
    return application.rawExchange({
      source: family === 4 ? CLIENT : CLIENT6,
      destination: family === 4 ? SERVER : SERVER6,
      sourcePort,
      port,
      eno,
      data: 'ping',
    });
  };

  before(async () => {
    network.sh('client', blockRst);
    real = network.agent('server');
    await real.listen({ name: 'real', host: '::', port: PORT });
    await real.listen({ name: 'excepted', host: '::', port: EXCEPTED_PORT });
    original = state('server');
    daemon = network.agent('server');
    await daemon.installSteering(OPTIONS);
  });
  beforeEach(async () => {
    const transparent = { port: INBOUND_PORT, transparent: true };
    await daemon.listen({ ...transparent, name: 'daemon', host: '127.0.0.1' });
    await daemon.listen({ ...transparent, name: 'daemon6', host: '::1' });
  });
  afterEach(async () => {
    await daemon.unlisten('daemon');
    await daemon.unlisten('daemon6');
  });
  after(async () => {
    await daemon.uninstallSteering();
    assert.equal(state('server'), original);
    await daemon.kill('SIGKILL');
    await real.kill('SIGKILL');
    network.sh('client', unblockRst);
  });

  test('a SYN with ENO to a listening port goes to the daemon, which sees the destination', async () => {
    assert.deepEqual(await exchange(4, PORT, true), {
      answer: 'syn-ack',
      text: `daemon ${CLIENT} ${SERVER}:${PORT}\nping`,
    });
  });

  test('IPv6 likewise', async () => {
    assert.deepEqual(await exchange(6, PORT, true), {
      answer: 'syn-ack',
      text: `daemon6 ${CLIENT6} ${SERVER6}:${PORT}\nping`,
    });
  });

  test('a SYN without ENO never meets the daemon', async () => {
    assert.match((await exchange(4, PORT, false)).text, /^real /);
    assert.match((await exchange(6, PORT, false)).text, /^real /);
    assert.match((await application.connect({ host: SERVER, port: PORT })).greeting, /^real /);
  });

  test('where nobody listens, the kernel answers RST', async () => {
    assert.equal((await exchange(4, CLOSED_PORT, true)).answer, 'rst');
    assert.equal((await exchange(6, CLOSED_PORT, true)).answer, 'rst');
  });

  test("excepted ports and the daemon's own are left alone", async () => {
    assert.match((await exchange(4, EXCEPTED_PORT, true)).text, /^excepted /);
    assert.equal((await exchange(4, INBOUND_PORT, true)).answer, 'rst');
  });

  test('a listener that negotiates ENO itself is left alone, whatever other marks it has', async () => {
    const eno = { host: '0.0.0.0', mark: MARK.LISTENER_SPEAKS_ENO | 0x77 };
    await real.listen({ ...eno, name: 'speaks', port: PORT + 1 });
    await real.listen({ host: '0.0.0.0', name: 'plain', port: PORT + 2, mark: 0x77 });
    assert.match((await exchange(4, PORT + 1, true)).text, /^speaks /);
    assert.match((await exchange(4, PORT + 2, true)).text, /^daemon /);
  });

  test('a server that listens on one address only is found, too', async () => {
    await real.listen({ name: 'bound', host: SERVER, port: PORT + 3 });
    assert.match((await exchange(4, PORT + 3, true)).text, /^daemon /);
  });

  test('what this host forwards is not steered, whoever listens on that port here', async () => {
    network.sh(
      'server',
      `ip link add veth1 type veth peer name veth2; ip addr add 10.70.0.1/24 dev veth1; ip link set veth1 up; ip link set veth2 up
       echo 1 > /proc/sys/net/ipv4/ip_forward`,
    );
    // Stands for the host that it is forwarded to.
    const reject = `FORWARD -p tcp -d 10.70.0.99 --dport ${PORT} -j REJECT --reject-with tcp-reset`;
    network.sh('server', `iptables -A ${reject}`);
    network.sh('client', `ip route add 10.70.0.0/24 via ${SERVER}`);
    const { answer } = await application.rawExchange({
      ...{ source: CLIENT, sourcePort: 61900, destination: '10.70.0.99', port: PORT, eno: true },
      patience: 200,
    });
    assert.equal(answer, 'rst');
    network.sh('server', 'nft delete table ip filter');
    network.sh('client', 'ip route del 10.70.0.0/24');
    network.sh('server', 'echo 0 > /proc/sys/net/ipv4/ip_forward; ip link del veth1');
  });

  test('SYN cookies: the ACK that brings the cookie reaches the listener that made it', async () => {
    network.sh('server', 'echo 2 > /proc/sys/net/ipv4/tcp_syncookies');
    const withEno = await exchange(4, PORT, true);
    const without = await exchange(4, PORT, false);
    network.sh('server', 'echo 1 > /proc/sys/net/ipv4/tcp_syncookies');
    assert.match(withEno.text, /^daemon .*\nping$/);
    assert.match(without.text, /^real .*\nping$/);
  });

  test("without the daemon's listener the real server gets the connection", async () => {
    await daemon.unlisten('daemon');
    await daemon.unlisten('daemon6');
    assert.match((await exchange(4, PORT, true)).text, /^real /);
    assert.match((await exchange(6, PORT, true)).text, /^real /);
  });

  for (const family of [4, 6] as const)
    test(`IPv${family}: the daemon reaches the server from the client's address, with rp_filter 1`, async () => {
      const [name, host] = family === 4 ? ['daemon', '127.0.0.1'] : ['daemon6', '::1'];
      await daemon.unlisten(name);
      await daemon.listen({ name, host, port: INBOUND_PORT, transparent: true, relay: true });
      assert.deepEqual(await exchange(family, PORT, true), {
        answer: 'syn-ack',
        text: `real ${family === 4 ? CLIENT : CLIENT6} ${family === 4 ? SERVER : SERVER6}:${PORT}\nping`,
      });
    });

  test("that leg also works with src_valid_mark and with others' unmasked marks", async () => {
    network.sh(
      'server',
      `echo 1 > /proc/sys/net/ipv4/conf/all/src_valid_mark
       iptables -t mangle -A OUTPUT -p tcp -j MARK --set-mark 1
       iptables -t mangle -A PREROUTING -p tcp -j CONNMARK --restore-mark`,
    );
    await daemon.unlisten('daemon');
    await daemon.listen({
      ...{ name: 'daemon', host: '127.0.0.1', port: INBOUND_PORT },
      ...{ transparent: true, relay: true },
    });
    const { text } = await exchange(4, PORT, true);
    network.sh('server', `echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark; nft delete table ip mangle`);
    assert.match(text, /^real 10\.69\.0\.1 .*\nping$/);
  });
});

describe('the daemon is killed', () => {
  let original: string;
  before(async () => {
    server = network.agent('server');
    await server.listen({ name: 'server', host: '::', port: PORT });
    original = state('client');
  });
  after(() => server.kill('SIGKILL'));

  test('its guard removes everything, and connections go on in plaintext', async () => {
    const doomed = network.agent('client');
    await doomed.openQueue(QUEUE, 'hold');
    await doomed.installSteering(OPTIONS, true);
    const held = application.connect({ host: SERVER, port: PORT });
    while ((await doomed.takeSeen()).length === 0) await application.sleep(10);
    await doomed.kill('SIGKILL');
    const { greeting, milliseconds } = await application.connect({ host: SERVER, port: PORT });
    assert.match(greeting, /^server/);
    assert.ok(milliseconds < 2 * SYN_AGAIN);
    assert.match((await held).greeting, /^server/);
    assert.equal(await settled(() => state('client'), original), original);
  });

  test('without a guard connections go on; leftovers can be removed, and are replaced', async () => {
    const doomed = network.agent('client');
    await doomed.openQueue(QUEUE, 'hold');
    await doomed.installSteering(OPTIONS);
    await doomed.kill('SIGKILL');
    const { greeting, milliseconds } = await application.connect({ host: SERVER, port: PORT });
    assert.match(greeting, /^server/);
    assert.ok(milliseconds < 500);

    daemon = network.agent('client');
    await daemon.installSteering(OPTIONS);
    const installed = state('client');
    await daemon.installSteering(OPTIONS);
    assert.equal(state('client'), installed);
    assert.deepEqual(await daemon.removeLeftovers(), [
      'iptables rule',
      'nft table ip raw',
      'ip -4 rule',
      'ip -4 route',
      'ip6tables rule',
      'nft table ip6 raw',
      'ip -6 rule',
      'ip -6 route',
      'nft table inet tcpcrypt',
      'nft table inet tcpcrypt_policy',
    ]);
    assert.equal(state('client'), original);
    assert.deepEqual(await daemon.removeLeftovers(), []);
    await daemon.kill('SIGKILL');
  });
});

/** Waits, two seconds at most, until `read` says `expected`; returns what it said last. */
async function settled(read: () => string, expected: string): Promise<string> {
  let last = read();
  for (let i = 0; i < 20 && last !== expected; i++) {
    await application.sleep(100);
    last = read();
  }
  return last;
}

describe('the exact inverse', () => {
  let fresh: Network;
  const sh = (script: string): string => fresh.sh('client', script);
  const stateNow = (): string => state('client', fresh);

  beforeEach(() => {
    fresh = new Network();
    daemon = fresh.agent('client');
  });
  afterEach(() => fresh.close());

  const states: Record<string, string> = {
    nothing: '',
    'rules of others in raw, mangle, nat and filter': `
      iptables -t raw -A OUTPUT -p tcp --dport 9 -m comment --comment 'not tcpcrypt' -j NOTRACK
      iptables -t raw -A PREROUTING -p udp -j ACCEPT
      ip6tables -t raw -A OUTPUT -p tcp --dport 9 -j NOTRACK
      iptables -t mangle -A OUTPUT -p tcp -j MARK --set-mark 0x01000000/0x01000000
      iptables -t nat -A OUTPUT -p tcp --dport 9 -j REDIRECT --to-ports 99
      iptables -A OUTPUT -p tcp`,
    'a table raw without chains, and one with another chain': `
      nft add table ip raw
      ip6tables -t raw -A PREROUTING -p udp -j ACCEPT`,
    'an empty table raw of iptables': `
      iptables -t raw -A OUTPUT -p udp; iptables -t raw -F OUTPUT
      ip6tables -t raw -N mine`,
    'nft tables, ip rules and routes of others': `
      nft add table inet other; nft add chain inet other output '{ type filter hook output priority -300; }'
      nft add rule inet other output tcp dport 9 counter accept
      ip rule add fwmark 1 lookup 100; ip rule add priority 69 fwmark 2/2 lookup 8547
      ip route add 10.99.0.0/16 via ${SERVER} table 8547; ip -6 rule add fwmark 1 lookup 100`,
  };
  for (const [name, script] of Object.entries(states))
    test(`from: ${name}`, async () => {
      sh(script);
      // So that counters are not all zero.
      await daemon.connect({ host: SERVER, port: CLOSED_PORT, mark: MARK.DAEMON_SOCKET });
      const original = stateNow();
      await daemon.installSteering(OPTIONS);
      assert.notEqual(stateNow(), original);
      await daemon.uninstallSteering();
      assert.equal(stateNow(), original);
    });

  test('a rule that somebody adds to a table of ours-to-delete stays, and its table with it', async () => {
    await daemon.installSteering(OPTIONS);
    sh('iptables -t raw -A OUTPUT -p udp --dport 9 -j NOTRACK');
    await daemon.uninstallSteering();
    const rules = sh('iptables -t raw -S');
    assert.match(rules, /^-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-A OUTPUT -p udp .*\n$/);
  });

  const failures: Record<string, { script: string; message: RegExp }> = {
    'lo is down': { script: 'ip link set lo down', message: /\(ip: .*not up/ },
    'somebody else uses our routing table': {
      script: 'ip route add unreachable default table 8547',
      message: /\(ip: .*exists/,
    },
    'ip6tables cannot use its table': {
      script: `nft add table ip6 raw; nft add chain ip6 raw OUTPUT '{ type filter hook input priority 5; }'`,
      message: /\(ip6tables: /,
    },
  };
  for (const [name, { script, message }] of Object.entries(failures))
    test(`an install that fails half-way leaves nothing: ${name}`, async () => {
      sh(script);
      const original = stateNow();
      await assert.rejects(daemon.installSteering(OPTIONS), message);
      assert.equal(stateNow(), original);
    });

  test('without privileges: not permitted, run as root', async () => {
    const nobody = fresh.agent('client');
    await nobody.dropPrivileges();
    await assert.rejects(nobody.installSteering(OPTIONS), /not permitted: run as root/);
    await assert.rejects(nobody.removeLeftovers(), /not permitted: run as root/);
  });

  test('IPv6 can be left out', async () => {
    const original = stateNow();
    await daemon.installSteering({ ...OPTIONS, ipv6: false });
    assert.doesNotMatch(sh('ip6tables-save; ip -6 rule'), /tcpcrypt|8547/);
    await daemon.uninstallSteering();
    assert.equal(stateNow(), original);
  });
});
