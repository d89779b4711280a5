import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket as TcpSocket } from 'node:net';
import { before, test } from 'node:test';
import * as libc from '#src/kernel/libc.js';
import { type ConnectTarget, connectBare, learnToConnect } from '#src/socket/bare-connect.js';
import { own } from '#src/socket/bare-socket.js';
import { transportOf } from '#src/socket/transport.js';

const tcp = (family: 4 | 6): number =>
  libc.socket(
    family === 4 ? libc.AF_INET : libc.AF_INET6,
    libc.SOCK_STREAM | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC,
    0,
  );

/** What became of it, and the connection if there is one. */
type Result = { readonly error: Error | undefined; readonly transport: TcpSocket };

const byBare = (target: ConnectTarget): Promise<Result> =>
  new Promise((resolve) => {
    const transport = connectBare(tcp(target.family), target, (error) =>
      resolve({ error, transport: transport as TcpSocket }),
    );
    assert.ok(transport, 'this Node has the words');
  });

const byNode = (target: ConnectTarget): Promise<Result> =>
  new Promise((resolve) => {
    const transport = transportOf(tcp(target.family));
    learnToConnect(transport);
    transport.once('error', (error) => resolve({ error, transport }));
    transport.once('connect', () => resolve({ error: undefined, transport }));
    transport.connect({ ...target, localAddress: target.localAddress ?? '' });
  });

const facts = ({ error }: Result): object | undefined => error && { ...error, message: error.message };

/** Ports where nobody listens. */
const NOBODY = { 4: { host: '127.0.0.1', port: 1 }, 6: { host: '::1', port: 1 } };

before(async () => {
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { error, transport } = await byNode({ host: '127.0.0.1', port, family: 4 });
  assert.equal(error, undefined);
  transport.destroy();
  server.close();
});

for (const family of [4, 6] as const) {
  test(`IPv${family}: connects, from a local address where one is given, and carries bytes both ways`, async () => {
    const { host } = NOBODY[family];
    const server = createServer((socket) => socket.pipe(socket)).listen(0, host);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (const localAddress of family === 4 ? [undefined, '127.0.0.2'] : [undefined, '::1']) {
      const { error, transport } = await byBare({ host, port, family, localAddress });
      assert.equal(error, undefined);
      assert.equal(transport.localAddress, localAddress ?? host);
      const echoed = await new Promise((resolve) => {
        own(transport, {
          handleData: (lent) => resolve(Buffer.from(lent).toString()),
          handleEnd: () => {},
          handleDrain: () => {},
          handleError: resolve,
          handleClosed: () => resolve('closed'),
        });
        transport.resume();
        transport.write(Buffer.from('ping'));
      });
      assert.equal(echoed, 'ping');
      transport.destroy();
    }
    server.close();
  });

  test(`IPv${family}: a connection that is refused fails as net.Socket's does`, async () => {
    const target = { ...NOBODY[family], family };
    const [bare, node] = [await byBare(target), await byNode(target)];
    assert.deepEqual(facts(bare), facts(node));
    assert.ok(bare.transport.destroyed);
  });
}

test('so does one to where no way leads, and one from an address that is not ours', async () => {
  for (const target of [
    { host: '255.255.255.255', port: 80, family: 4 },
    { host: '127.0.0.1', port: 80, family: 4, localAddress: '192.0.2.1' },
  ] as const) {
    const [bare, node] = [await byBare(target), await byNode(target)];
    assert.deepEqual(facts(bare), facts(node));
  }
});

test('an attempt that is given up says so, once', async () => {
  const errors: (Error | undefined)[] = [];
  const target = { host: '127.0.0.1', port: 1, family: 4 } as const;
  const transport = connectBare(tcp(4), target, (error) => errors.push(error));
  assert.equal(errors.length, 0);
  transport?.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(
    errors.map((error) => error?.message),
    ['the connection attempt was given up'],
  );
});
