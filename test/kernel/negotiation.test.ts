/** Negotiation between real sockets over loopback, and the socket options around it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { TcpcryptError } from '#src/errors.js';
import {
  type EnoOffer,
  enoOutcome,
  enoState,
  openEnoSocket,
  outcomeOf,
  publishSessionId,
  TCP_ENO,
  TCP_ENO_LISTENER_MARK,
} from '#src/kernel/eno-socket.js';
import { countRuns } from '#src/kernel/libbpf.js';
import {
  AF_INET,
  bind,
  close,
  EINVAL,
  EISCONN,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  getsockopt,
  IPPROTO_TCP,
  listen as listenOn,
  SO_MARK,
  SOCK_STREAM,
  SOL_SOCKET,
  socket,
  TCP_FASTOPEN,
  tryGetsockopt,
  trySetsockopt,
} from '#src/kernel/libc.js';
import { sockaddr } from '#src/kernel/sockaddr.js';
import { withCode } from '../support/code.js';
import { dial, fdOf, hex, lab, listen, pair, shell } from './lab.js';

const place = lab();
const EACCES = 13;
const ENODATA = 61;
const offer = (contents: string): EnoOffer => ({ contents: hex(contents) });
const get = (fd: number, name: number, capacity = 96): Buffer | number =>
  tryGetsockopt(fd, IPPROTO_TCP, name, capacity);
const set = (fd: number, name: number, value: Uint8Array | number): number =>
  trySetsockopt(fd, IPPROTO_TCP, name, value);
const int = (fd: number, name: number): number => {
  const value = get(fd, name, 4);
  assert.ok(Buffer.isBuffer(value), `${name}: ${value}`);
  return value.readInt32LE();
};

/** Outcomes of the client's and the server's end of one connection. */
async function outcomes(client: EnoOffer | undefined, server: EnoOffer | undefined, host?: string) {
  const ends = await pair(client, server, host);
  const result = { client: enoOutcome(fdOf(ends.client)), server: enoOutcome(fdOf(ends.server)) };
  ends.close();
  return result;
}

const plain = (reason: string) => ({ result: 'plain', reason });

for (const host of ['127.0.0.1', '::1'])
  test(`ENO-35: both ends encrypt, with opposite roles and the same transcript (${host})`, async () => {
    const { client, server } = await outcomes(offer('0023'), offer('2123'), host);
    const transcript = Uint8Array.from(hex('45040023' + '45040123'));
    assert.deepEqual(client, { result: 'encrypt', role: 'A', transcript });
    assert.deepEqual(server, { result: 'encrypt', role: 'B', transcript });
  });

test('ENO-35: an IPv4 client of an IPv6 listener', async () => {
  const { server, port, accept } = await listen(offer('23'), '::');
  const client = await dial(port, offer('23'));
  const accepted = await accept();
  assert.equal(enoOutcome(fdOf(client)).result, 'encrypt');
  assert.equal(enoOutcome(fdOf(accepted)).result, 'encrypt');
  client.destroy();
  accepted.destroy();
  server.close();
});

test('listeners that share a port (SO_REUSEPORT) answer each with its own contents', async () => {
  const SO_REUSEPORT = 15;
  const fds = ['23', '21'].map((contents) => {
    const fd = openEnoSocket(4, offer(contents));
    trySetsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return fd;
  });
  const [one = -1, two = -1] = fds;
  bind(one, sockaddr('127.0.0.1', 0));
  const first = createServer().listen({ fd: one });
  await once(first, 'listening');
  const { port } = first.address() as AddressInfo;
  bind(two, sockaddr('127.0.0.1', port));
  const second = createServer().listen({ fd: two });
  await once(second, 'listening');
  const served = new Map<Server, Set<string>>([first, second].map((server) => [server, new Set()]));
  for (const [server, teps] of served)
    server.on('connection', (socket) => {
      teps.add(int(fdOf(socket), TCP_ENO.NEGTEP).toString(16));
      socket.destroy();
    });
  for (let i = 0; i < 40; i++) {
    const client = await dial(port, offer('2321'));
    assert.equal(enoOutcome(fdOf(client)).result, 'encrypt');
    client.resume();
    await once(client, 'end');
    client.destroy();
  }
  assert.deepEqual(
    [...served.values()].map((teps) => [...teps]),
    [['23'], ['21']],
  );
  first.close();
  second.close();
});

test('ENO-24, ENO-25: the listener picks solely the last in its list that was offered', async () => {
  for (const [offered, accepted, picked] of [
    ['212324', '232421', '21'],
    ['242321', '212423', '23'],
    ['24', '212423', '24'],
    ['21a3ffff', '2123', '23'],
    ['81a4ffff23', '2324', '24'],
  ] as const) {
    const { client } = await outcomes(offer(offered), offer(accepted));
    assert.ok(client.result === 'encrypt');
    assert.equal(
      Buffer.from(client.transcript.subarray(offered.length / 2 + 2)).toString('hex'),
      `450401${picked}`,
      `${offered} ${accepted}`,
    );
  }
});

test('ENO-16, ENO-20: the listener answers its global suboption with b=1; each side reads the other one', async () => {
  const ends = await pair(offer('0223'), offer('0223'));
  const [client, server] = [fdOf(ends.client), fdOf(ends.server)];
  assert.equal(int(client, TCP_ENO.PEER_GOPT), 3);
  assert.equal(int(server, TCP_ENO.PEER_GOPT), 2);
  assert.deepEqual([int(client, TCP_ENO.ROLE), int(server, TCP_ENO.ROLE)], [0, 1]);
  assert.deepEqual([int(client, TCP_ENO.NEGTEP), int(server, TCP_ENO.NEGTEP)], [0x23, 0x23]);
  ends.close();
});

test('ENO-29, ENO-31: no common TEP, a vacuous offer, a claimed role, no ENO at all: plain TCP, with the reason', async () => {
  const absent = plain('ERR_TCPCRYPT_ENO_ABSENT');
  assert.deepEqual(await outcomes(offer('21'), offer('23')), {
    client: absent,
    server: plain('ERR_TCPCRYPT_ENO_NO_TEP'),
  });
  assert.deepEqual(await outcomes(offer('2323'), offer('23')), {
    client: absent,
    server: plain('ERR_TCPCRYPT_ENO_NO_TEP'),
  });
  assert.deepEqual(await outcomes(offer('00'), offer('23')), {
    client: absent,
    server: plain('ERR_TCPCRYPT_ENO_VACUOUS'),
  });
  assert.deepEqual(await outcomes(offer('0123'), offer('23')), {
    client: absent,
    server: plain('ERR_TCPCRYPT_ENO_ROLE'),
  });
  assert.deepEqual(await outcomes(offer('23'), undefined), { client: absent, server: absent });
  assert.deepEqual(await outcomes(undefined, offer('23')), { client: absent, server: absent });
});

test('ENO-21: mandatory application-aware mode keeps ENO off towards a peer that is not aware', async () => {
  const strict: EnoOffer = { contents: hex('0223'), mandatoryAware: true };
  assert.equal((await outcomes(strict, offer('0223'))).client.result, 'encrypt');
  assert.deepEqual(await outcomes(strict, offer('23')), {
    client: plain('ERR_TCPCRYPT_ENO_UNAWARE'),
    server: plain('ERR_TCPCRYPT_ENO_NO_ACK'),
  });
  assert.deepEqual(await outcomes(offer('23'), strict), {
    client: plain('ERR_TCPCRYPT_ENO_ABSENT'),
    server: plain('ERR_TCPCRYPT_ENO_UNAWARE'),
  });
});

test('ENO-33: with no SYN to carry it ENO is off, and the connection is plain', async () => {
  assert.deepEqual(await outcomes({ contents: hex('23'), synTries: 0 }, offer('23')), {
    client: plain('ERR_TCPCRYPT_ENO_GIVEN_UP'),
    server: plain('ERR_TCPCRYPT_ENO_ABSENT'),
  });
});

test('an offer that does not fit into the SYN is not sent at all', async () => {
  const room = (bytes: number) => ({ contents: Buffer.concat([hex('23a4'), Buffer.alloc(bytes - 4)]) });
  assert.equal((await outcomes(room(20), offer('23'))).server.result, 'encrypt');
  assert.deepEqual(await outcomes(room(21), offer('23')), {
    client: plain('ERR_TCPCRYPT_ENO_NO_ROOM'),
    server: plain('ERR_TCPCRYPT_ENO_ABSENT'),
  });
});

test('ENO-39, ENO-40: a SYN with a Fast Open cookie or data carries no ENO', () => {
  // The first connection fetches the cookie (an empty option, which is allowed); the second one uses it, with data; the
  // third one has the cookie without data, the fourth data without a cookie. The system switches Fast Open on for all listeners: one with ENO cannot do so itself.
  const script = `
import socket, struct
def run():
    client = socket.socket(); client.setsockopt(6, 1037, b'\\x23'); client.setsockopt(6, 30, 1)
    client.connect(('127.0.0.1', port)); client.send(b'hello')
    server, _ = listener.accept(); server.recv(5)
    out = []
    for end in (client, server): out.append(list(end.getsockopt(6, 1039, 96)[:2]))
    return out
listener = socket.socket(); listener.setsockopt(6, 1037, b'\\x23')
listener.bind(('127.0.0.1', 0)); port = listener.getsockname()[1]; listener.listen(8)
print(run(), run())
client = socket.socket(); client.setsockopt(6, 1037, b'\\x23')
client.sendto(b'', socket.MSG_FASTOPEN, ('127.0.0.1', port))
print([list(end.getsockopt(6, 1039, 96)[:2]) for end in (client, listener.accept()[0])])
open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('0x607')
print(run())`;
  const text = shell(
    `unshare --net sh -c "ip link set lo up; sysctl -qw net.ipv4.tcp_fastopen=0x403; python3 -c \\"$SCRIPT\\""`.replace(
      '$SCRIPT',
      script.replace(/[\\"$`]/g, '\\\\\\$&'),
    ),
  );
  assert.equal(text.trim(), '[[3, 0], [3, 0]] [[4, 10], [4, 1]]\n[[4, 10], [4, 1]]\n[[4, 10], [4, 1]]');
});

test('API-1, API-12: read-only options: ENOTCONN before the outcome and before the session ID, EINVAL when ENO is off', async () => {
  const readOnly = [
    TCP_ENO.SESSID,
    TCP_ENO.NEGTEP,
    TCP_ENO.PEER_GOPT,
    TCP_ENO.ROLE,
    TCP_ENO.SELF_NAME,
    TCP_ENO.PEER_NAME,
    TCP_ENO.TRANSCRIPT,
  ];
  const idle = openEnoSocket(4, offer('23'));
  const never = socket(AF_INET, SOCK_STREAM, 0);
  const failed = await pair(offer('21'), offer('23'));
  for (const name of readOnly) {
    assert.equal(get(idle, name), -ENOTCONN, `${name}`);
    assert.equal(get(never, name), -ENOTCONN, `${name}`);
    assert.equal(get(fdOf(failed.client), name), -EINVAL, `${name}`);
    assert.equal(get(fdOf(failed.server), name), -EINVAL, `${name}`);
    if (name !== TCP_ENO.SESSID) assert.equal(set(idle, name, 1), -EACCES, `${name}`);
  }
  failed.close();
  const ends = await pair(offer('23'), offer('23'));
  for (const name of [TCP_ENO.SESSID, TCP_ENO.SELF_NAME, TCP_ENO.PEER_NAME])
    assert.equal(get(fdOf(ends.client), name), -ENOTCONN);
  assert.deepEqual(get(fdOf(ends.client), TCP_ENO.TRANSCRIPT), hex('450323' + '45040123'));
  assert.equal(get(fdOf(ends.client), TCP_ENO.TRANSCRIPT, 3), -EINVAL); // too short a buffer
  ends.close();
  close(idle);
  close(never);
});

test('ENO-61, API-7: the session ID is set once, by the encrypting end; SELF_NAME here is PEER_NAME there', async () => {
  const ends = await pair(offer('23'), offer('23'));
  const [client, server] = [fdOf(ends.client), fdOf(ends.server)];
  const id = Buffer.concat([hex('23'), Buffer.alloc(32, 0xab)]);
  assert.equal(set(client, TCP_ENO.SESSID, id.subarray(0, 32)), -EINVAL);
  assert.equal(set(client, TCP_ENO.SESSID, Buffer.alloc(65, 0x23)), -EINVAL);
  assert.equal(set(client, TCP_ENO.SESSID, Buffer.alloc(33, 0x24)), -EINVAL); // not of the negotiated TEP
  for (const fd of [client, server]) {
    publishSessionId(fd, id);
    assert.deepEqual(get(fd, TCP_ENO.SESSID), id);
    assert.equal(set(fd, TCP_ENO.SESSID, id), -EISCONN);
  }
  assert.deepEqual(get(client, TCP_ENO.SELF_NAME), Buffer.concat([hex('00'), id]));
  assert.deepEqual(get(client, TCP_ENO.SELF_NAME), get(server, TCP_ENO.PEER_NAME));
  assert.deepEqual(get(client, TCP_ENO.PEER_NAME), get(server, TCP_ENO.SELF_NAME));
  assert.equal(get(client, TCP_ENO.SESSID, 32), -EINVAL); // never half an ID
  ends.close();
  const none = await pair(undefined, offer('23'));
  assert.equal(set(fdOf(none.server), TCP_ENO.SESSID, id), -EINVAL);
  assert.equal(set(fdOf(none.client), TCP_ENO.SESSID, id), -EACCES);
  none.close();
});

test('API-8: RAW: what was set is read back; ill-formed contents are refused; empty turns it off', () => {
  const fd = openEnoSocket(4, offer('23'));
  assert.deepEqual(get(fd, TCP_ENO.RAW), hex('23'));
  for (const bad of ['80', '2380', '802355', '9fa355', '23'.repeat(39)])
    assert.equal(set(fd, TCP_ENO.RAW, hex(bad)), -EINVAL, bad);
  assert.deepEqual(get(fd, TCP_ENO.RAW), hex('23'));
  const longest = Buffer.concat([hex('a3'), Buffer.alloc(37, 7)]);
  assert.equal(set(fd, TCP_ENO.RAW, longest), 0);
  assert.deepEqual(get(fd, TCP_ENO.RAW), longest);
  assert.equal(set(fd, TCP_ENO.RAW, Buffer.alloc(0)), 0);
  assert.equal(get(fd, TCP_ENO.RAW), -ENODATA);
  assert.equal(get(fd, TCP_ENO.SESSID), -ENOTCONN);
  close(fd);
});

test('openEnoSocket: ill-formed contents are the caller’s fault', () => {
  assert.throws(
    () => openEnoSocket(4, offer('80')),
    (error) => error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_ARGUMENT',
  );
});

test('a state of another size, or with more transcript than there is room for, is not read beyond its end', () => {
  for (const [size, transcript] of [
    [4, 0],
    [95, 79],
    [96, 81],
    [96, 255],
  ] as const) {
    const state = Buffer.alloc(size);
    state[0] = 3; // TCP_ENO_PHASE_ENCRYPTING
    state[9] = transcript;
    assert.throws(() => outcomeOf(state), withCode('ERR_TCPCRYPT_KERNEL_FEATURE'));
  }
});

test('API-2: RAW, SYN_TRIES and EXPECT cannot be set any more once connected or listening', async () => {
  const ends = await pair(offer('23'), offer('23'));
  for (const fd of [fdOf(ends.client), fdOf(ends.server), fdOf(ends.listener)]) {
    assert.equal(set(fd, TCP_ENO.RAW, hex('21')), -EISCONN);
    assert.equal(set(fd, TCP_ENO.SYN_TRIES, 1), -EISCONN);
    assert.equal(set(fd, TCP_ENO.EXPECT, hex('a3ff')), -EISCONN);
  }
  assert.deepEqual(get(fdOf(ends.client), TCP_ENO.RAW), hex('23'));
  ends.close();
});

test('ENO-41: ENO and TCP Fast Open exclude each other on a socket, whichever comes first', () => {
  const eno = openEnoSocket(4, offer('23'));
  assert.equal(set(eno, TCP_FASTOPEN, 16), -EOPNOTSUPP);
  assert.equal(set(eno, TCP_FASTOPEN, 0), 0);
  const other = socket(AF_INET, SOCK_STREAM, 0);
  assert.equal(set(other, TCP_FASTOPEN, 16), 0);
  assert.equal(set(other, TCP_ENO.RAW, hex('23')), -EOPNOTSUPP);
  assert.equal(set(other, TCP_FASTOPEN, 0), 0);
  assert.equal(set(other, TCP_ENO.RAW, hex('23')), 0);
  close(eno);
  close(other);
});

test('SYN_TRIES: 2 by default, 0 to 255', () => {
  const fd = socket(AF_INET, SOCK_STREAM, 0);
  assert.equal(int(fd, TCP_ENO.SYN_TRIES), 2);
  for (const value of [0, 1, 255]) {
    assert.equal(set(fd, TCP_ENO.SYN_TRIES, value), 0);
    assert.equal(int(fd, TCP_ENO.SYN_TRIES), value);
  }
  for (const value of [-1, 256]) assert.equal(set(fd, TCP_ENO.SYN_TRIES, value), -EINVAL);
  assert.equal(set(fd, TCP_ENO.SYN_TRIES, hex('01')), -EINVAL);
  close(fd);
});

test('other options, other protocols and reserved numbers get the kernel’s own answers', () => {
  const tcp = socket(AF_INET, SOCK_STREAM, 0);
  const udp = socket(AF_INET, 2, 0);
  for (const name of [1025, 1050]) {
    assert.equal(get(tcp, name), -ENOPROTOOPT, `${name}`);
    assert.equal(set(tcp, name, 1), -ENOPROTOOPT, `${name}`);
  }
  assert.equal(set(tcp, 1, 1), 0); // TCP_NODELAY
  assert.equal(int(tcp, 1), 1);
  assert.ok(Number(get(udp, TCP_ENO.RAW)) < 0);
  assert.ok(set(udp, TCP_ENO.RAW, hex('23')) < 0);
  assert.equal(trySetsockopt(tcp, SOL_SOCKET, TCP_ENO.RAW, 1), -ENOPROTOOPT);
  close(tcp);
  close(udp);
});

test('an accepted socket has the outcome of its own connection and nothing else of the listener', async () => {
  const { server, port, accept } = await listen(offer('0223'));
  const first = await dial(port, offer('23'));
  const accepted = await accept();
  const second = await dial(port);
  const other = await accept();
  assert.equal(enoState(fdOf(server))?.phase, 2);
  assert.equal(enoState(fdOf(accepted))?.phase, 3);
  assert.deepEqual(enoOutcome(fdOf(other)), plain('ERR_TCPCRYPT_ENO_ABSENT'));
  const mark = (fd: number): number => getsockopt(fd, SOL_SOCKET, SO_MARK, 4).readUInt32LE();
  assert.equal(mark(fdOf(server)), TCP_ENO_LISTENER_MARK);
  assert.deepEqual([mark(fdOf(accepted)), mark(fdOf(other)), mark(fdOf(first))], [0, 0, 0]);
  for (const end of [first, accepted, second, other]) end.destroy();
  server.close();
});

test('the listener’s other mark bits are kept, and inherited; a listener without ENO is not marked', async () => {
  const fd = openEnoSocket(4, offer('23'));
  trySetsockopt(fd, SOL_SOCKET, SO_MARK, 0x55);
  bind(fd, sockaddr('127.0.0.1', 0));
  listenOn(fd, 1);
  assert.equal(getsockopt(fd, SOL_SOCKET, SO_MARK, 4).readUInt32LE(), TCP_ENO_LISTENER_MARK | 0x55);
  close(fd);
  const { server } = await listen();
  assert.equal(getsockopt(fdOf(server), SOL_SOCKET, SO_MARK, 4).readUInt32LE(), 0);
  server.close();
});

test('a listener is forgotten when it is closed, a half-open connection when it is accepted', async () => {
  const entries = (map: string): number =>
    (JSON.parse(shell(`bpftool -j map dump pinned '${place.pins}/${map}'`)) as unknown[]).length;
  const ends = await pair(offer('23'), offer('23'));
  assert.equal(entries('eno_listeners'), 1);
  assert.equal(entries('eno_requests'), 0);
  ends.close();
  await once(ends.listener, 'close');
  assert.equal(entries('eno_listeners'), 0);
});

test('established traffic runs none of our code: the call-backs are off and the run counters stand still', async () => {
  const ends = await pair(offer('23'), offer('23'));
  const programId = (
    JSON.parse(shell(`bpftool -j link show pinned '${place.pins}/link_eno_sockops'`)) as { prog_id: number }
  ).prog_id;
  const runs = (): number =>
    (JSON.parse(shell(`bpftool -j prog show id ${programId}`)) as { run_cnt?: number }).run_cnt ?? 0;
  const exchange = async (bytes: number): Promise<void> => {
    ends.server.removeAllListeners('data');
    let received = 0;
    const done = new Promise<void>((resolve) => {
      ends.server.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received === bytes) resolve();
      });
    });
    ends.client.write(Buffer.alloc(bytes));
    await done;
    ends.server.write('x');
    await once(ends.client, 'data');
  };
  const counting = countRuns();
  try {
    const idle = runs();
    await exchange(1);
    assert.equal(enoState(fdOf(ends.client))?.acknowledging, false);
    const decided = runs();
    assert.ok(decided > idle, 'the counters count');
    await exchange(64 << 20);
    assert.equal(runs(), decided);
  } finally {
    close(counting);
    ends.close();
  }
});
