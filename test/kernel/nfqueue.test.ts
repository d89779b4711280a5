import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import fc from 'fast-check';
import { bindMessage, parseMessages, verdictMessage } from '#src/kernel/netlink.js';
import { type Agent, CLIENT, Network, SERVER, SERVER6 } from './support/network.js';

const QUEUE = 4000;
const PORT = 7100;
/** As long as it takes until the kernel sends a SYN again. */
const SYN_AGAIN = 1000;

let network: Network;
let application: Agent;
let server: Agent;
let holder: Agent;

before(async () => {
  network = new Network();
  for (const tool of ['iptables', 'ip6tables'])
    network.sh(
      'client',
      `${tool} -A OUTPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport ${PORT} -j NFQUEUE --queue-num ${QUEUE} --queue-bypass`,
    );
  application = network.agent('client');
  server = network.agent('server');
  await server.listen({ name: 'server', host: '::', port: PORT });
  holder = network.agent('client');
});
afterEach(async () => {
  await holder.closeQueue();
});
after(() => network.close());

const toServer = { host: SERVER, port: PORT };

test('a held SYN shows its headers, mark and user; accepted, it connects', async () => {
  await holder.openQueue(QUEUE, 'accept');
  const { greeting, local, echoed } = await application.connect({ ...toServer, mark: 0x77 });
  assert.match(greeting, /^server 10\.69\.0\.1 /);
  assert.equal(echoed, 'ping');
  const [syn, ...rest] = await holder.takeSeen();
  assert.deepEqual(rest, []);
  assert.ok(syn);
  assert.equal(`${syn.source}:${syn.sourcePort}`, local);
  assert.equal(`${syn.destination}:${syn.destinationPort}`, `${SERVER}:${PORT}`);
  assert.deepEqual(syn.flags, { syn: true, ack: false, rst: false, fin: false });
  assert.equal(syn.mark, 0x77);
  assert.equal(syn.uid, 0);
  assert.ok(syn.options.includes(2), 'every SYN has an MSS option');
});

test('IPv6 goes through the same queue', async () => {
  await holder.openQueue(QUEUE, 'accept');
  assert.match((await application.connect({ host: SERVER6, port: PORT })).greeting, /^server fd69::1 /);
  assert.equal((await holder.takeSeen())[0]?.destination, SERVER6);
});

test('the user of the connecting process is told', async () => {
  const nobody = network.agent('client');
  await nobody.dropPrivileges();
  await holder.openQueue(QUEUE, 'accept');
  await nobody.connect(toServer);
  assert.equal((await holder.takeSeen())[0]?.uid, 65534);
});

test('a dropped SYN is sent again', async () => {
  await holder.openQueue(QUEUE, 'drop');
  const connecting = application.connect(toServer);
  while ((await holder.takeSeen()).length === 0) await holder.sleep(10);
  await holder.setVerdict('accept');
  assert.ok((await connecting).milliseconds >= SYN_AGAIN - 100);
});

test('close lets everything that is held go, at once', async () => {
  await holder.openQueue(QUEUE, 'hold');
  const connecting = Array.from({ length: 5 }, () => application.connect(toServer));
  while (((await holder.counters())?.received ?? 0) < 5) await holder.sleep(10);
  await holder.closeQueue();
  for (const { greeting, milliseconds } of await Promise.all(connecting)) {
    assert.match(greeting, /^server/);
    assert.ok(milliseconds < SYN_AGAIN);
  }
});

test('process.exit lets everything that is held go, and ends the process', async () => {
  const leaving = network.agent('client');
  await leaving.openQueue(QUEUE, 'hold');
  const connecting = application.connect(toServer);
  while ((await leaving.takeSeen()).length === 0) await holder.sleep(10);
  await assert.rejects(leaving.exit(), /gone/);
  await leaving.ended;
  assert.ok((await connecting).milliseconds < SYN_AGAIN);
});

test('the holder dies by SIGKILL: held SYNs are sent again and pass, later ones pass at once', async () => {
  const doomed = network.agent('client');
  await doomed.openQueue(QUEUE, 'hold');
  const connecting = application.connect(toServer);
  while ((await doomed.takeSeen()).length === 0) await holder.sleep(10);
  await doomed.kill('SIGKILL');
  assert.ok((await application.connect(toServer)).milliseconds < SYN_AGAIN);
  const { greeting, milliseconds } = await connecting;
  assert.match(greeting, /^server/);
  assert.ok(milliseconds < 2 * SYN_AGAIN);
});

test('a full queue lets packets pass, or drops them where that is wanted', async () => {
  await holder.openQueue(QUEUE, 'hold', { maxHeld: 1 });
  const held = application.connect(toServer);
  while ((await holder.takeSeen()).length === 0) await holder.sleep(10);
  assert.ok((await application.connect(toServer)).milliseconds < SYN_AGAIN);
  await holder.closeQueue();
  await held;

  await holder.openQueue(QUEUE, 'hold', { maxHeld: 1, whenFull: 'drop' });
  const first = application.connect(toServer);
  while ((await holder.takeSeen()).length === 0) await holder.sleep(10);
  const second = application.connect(toServer);
  await holder.sleep(200);
  await holder.closeQueue();
  await first;
  assert.ok((await second).milliseconds >= SYN_AGAIN - 100);
});

test('a queue that another process has bound is refused, with that process; another namespace has its own', async () => {
  await holder.openQueue(QUEUE, 'accept');
  await assert.rejects(
    application.openQueue(QUEUE, 'accept'),
    /NFQUEUE number 4000 is in use by process \d+/,
  );
  await server.openQueue(QUEUE, 'accept');
  await server.closeQueue();
});

test('without privileges: not permitted, run as root', async () => {
  const nobody = network.agent('client');
  await nobody.dropPrivileges();
  await assert.rejects(nobody.openQueue(QUEUE, 'accept'), /not permitted: run as root .*EPERM/);
});

test('a burst of 200 connections', async () => {
  await holder.openQueue(QUEUE, 'accept');
  const all = await Promise.all(Array.from({ length: 200 }, () => application.connect(toServer)));
  assert.equal(all.filter((c) => c.greeting.startsWith(`server ${CLIENT}`)).length, 200);
  assert.deepEqual(await holder.counters(), { received: 200, overruns: 0 });
  assert.deepEqual(await holder.queueErrors(), []);
});

test('netlink: layout of a verdict with a mark', () => {
  assert.equal(
    verdictMessage(0x1234, 1, 7, 0x82000001).toString('hex'),
    // nlmsghdr · nfgenmsg · VERDICT_HDR · MARK
    `28000000${'0103'}${'0100'}${'00000000'}${'00000000'}${'00001234'}${'0c000200'}${'00000001'}${'00000007'}${'08000300'}${'82000001'}`,
  );
});

test('netlink: arbitrary and damaged datagrams never throw', () => {
  const seed = bindMessage({ queue: 1, copyBytes: 100, maxHeld: 10, whenFull: 'accept' }, 1);
  // As if it were a packet of the queue.
  seed.writeUInt16LE(3 << 8, 4);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(seed.length), (bytes, at) => {
      parseMessages(Buffer.from(bytes));
      const damaged = Buffer.from(seed);
      damaged.set(bytes.subarray(0, damaged.length - at), at);
      parseMessages(damaged);
    }),
  );
});
