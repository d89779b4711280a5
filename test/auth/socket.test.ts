/** The option `auth` of `connect` and `createServer`: who is authenticated when, and what nobody gets before. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { knownKey, type Mechanism, type Peer, sharedKey } from '#src/auth/index.js';
import {
  type Authentication,
  type ConnectOptions,
  connect,
  createServer,
  type EncryptionOptions,
  type Server,
  type ServerOptions,
  SessionCache,
  type Socket,
} from '#src/index.js';
import { withCode } from '../support/code.js';
import { manInTheMiddle } from './support/man-in-the-middle.js';
import { type KernelPart, kernelPart } from './support/network.js';
import { makeMaterial, SETTING_NAMES, settingOf } from './support/settings.js';

const SECRET = 'the secret of the application';
const key = Buffer.from('a strong secret of many bytes');
const otherKey = Buffer.from('another strong secret of many');
const offer = [sharedKey({ key, id: 'k1' })];
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-auth-'));
const material = await makeMaterial();

let kernel: KernelPart | undefined;
before(() => {
  kernel = kernelPart('socket');
});
after(async () => {
  await kernel?.undo();
  rmSync(directory, { recursive: true });
});

/** A server that answers everything, and what it has seen. */
class Service {
  readonly connections: Socket[] = [];
  readonly refused: Error[] = [];
  readonly received: Buffer[] = [];

  private constructor(
    readonly server: Server,
    silent: boolean,
  ) {
    server.on('connection', (socket) => {
      this.connections.push(socket);
      socket.on('error', () => {});
      if (silent) socket.resume();
      else
        socket.on('data', (chunk: Buffer) => {
          this.received.push(chunk);
          socket.write(`answer to ${chunk}`);
        });
      socket.on('end', () => socket.end());
    });
    server.on('clientError', (error: Error) => {
      this.refused.push(error);
      server.emit('refused');
    });
  }
  static async start(context: TestContext, options: ServerOptions, silent = false): Promise<Service> {
    const server = createServer({ allowHalfOpen: true, ...options });
    context.after(() => server.close());
    const service = new Service(server, silent);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return service;
  }
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }
  /** The error of the next connection that is refused, or was. */
  async refusal(): Promise<string | undefined> {
    if (this.refused.length === 0) await once(this.server, 'refused');
    return (this.refused.shift() as NodeJS.ErrnoException).code;
  }
}

const call = (port: number, options: Partial<ConnectOptions>): Socket =>
  connect({ port, host: '127.0.0.1', allowHalfOpen: true, ...options });

/** Says the secret before anything is known of the connection; the answer. */
async function ask(socket: Socket): Promise<string> {
  socket.write(SECRET);
  const [answer] = await once(socket, 'data');
  socket.end();
  socket.resume();
  await once(socket, 'close');
  return String(answer);
}

/** The code of the error that ends `socket`; it must not have become ready. */
async function failure(socket: Socket): Promise<string | undefined> {
  socket.on('ready', () => assert.fail('ready'));
  socket.on('data', () => assert.fail('data'));
  socket.write(SECRET, () => {});
  const [error] = await once(socket, 'error').catch((reason) => [reason]);
  if (!socket.closed) await once(socket, 'close');
  return (error as NodeJS.ErrnoException).code;
}

for (const name of SETTING_NAMES) {
  test(`${name}: secure, then authenticated, then ready; on a resumed session, too`, async (context) => {
    const { client, server, names } = settingOf(name, material, join(directory, 'known'));
    const service = await Service.start(context, { auth: { offer: [server] } });
    const resumption = new SessionCache();
    for (const resumed of [false, true]) {
      const socket = call(service.port, { auth: { offer: [client] }, resumption });
      const events: string[] = [];
      for (const event of ['connect', 'secure', 'authenticated', 'ready']) {
        socket.on(event, () => events.push(`${event}${socket.peer === undefined ? '' : ' with a peer'}`));
      }
      let told: Peer | undefined;
      socket.on('authenticated', (peer: Peer) => {
        told = peer;
      });
      assert.equal(await ask(socket), `answer to ${SECRET}`);
      assert.deepEqual(events, ['connect', 'secure', 'authenticated with a peer', 'ready with a peer']);
      assert.equal(socket.resumed, resumed);
      assert.equal(socket.peerAware, true);
      assert.equal(socket.peer, told);
      const there = service.connections.pop();
      assert.deepEqual([socket.peer?.name, there?.peer?.name], names);
      assert.equal(socket.peer?.mechanism, client.name);
      // Authentication is not data of the application.
      const length = SECRET.length;
      assert.deepEqual([socket.bytesWritten, there?.bytesRead], [length, length]);
      assert.deepEqual([socket.bytesRead, there?.bytesWritten], [length + 10, length + 10]);
    }
    assert.deepEqual(service.refused, []);
  });
}

describe('refusal', () => {
  test('the wrong key: an error at both ends, and no byte of the application', async (context) => {
    const service = await Service.start(context, { auth: { offer } });
    const middle = await manInTheMiddle(service.port);
    context.after(() => middle.server.close());
    const socket = call(service.port, { auth: { offer: [sharedKey({ key: otherKey, id: 'k1' })] } });
    const codes = [await failure(socket), await service.refusal()];
    for (const code of codes) assert.match(`${code}`, /^ERR_TCPCRYPT_AUTH_(PROOF|REFUSED)$/);
    assert.ok(codes.includes('ERR_TCPCRYPT_AUTH_PROOF'));
    assert.deepEqual([service.connections, service.received], [[], []]);
  });

  test('a man in the middle: he hears nothing of the application, and both know of him', async (context) => {
    const service = await Service.start(context, { auth: { offer } });
    const middle = await manInTheMiddle(service.port, undefined, { aware: true });
    context.after(() => middle.server.close());
    const socket = call(middle.port, { auth: { offer } });
    assert.equal(await failure(socket), 'ERR_TCPCRYPT_AUTH_SESSION');
    assert.equal(await service.refusal(), 'ERR_TCPCRYPT_AUTH_SESSION');
    assert.ok(middle.heard.fromClient.length > 0);
    assert.ok(!Buffer.concat(middle.heard.fromClient).includes(SECRET));
    assert.deepEqual([service.connections, service.received], [[], []]);
  });

  test('it flushes the resumption state: the session that failed is not resumed', async (context) => {
    let keyOfServer = key;
    const changing = sharedKey({ keys: () => keyOfServer });
    const service = await Service.start(context, { auth: { offer: [changing] } });
    const options = { auth: { offer }, resumption: new SessionCache() };
    const resumed: boolean[] = [];
    const good = async (): Promise<void> => {
      const socket = call(service.port, options);
      await ask(socket);
      resumed.push(socket.resumed);
    };
    await good();
    await good();
    keyOfServer = otherKey;
    const bad = call(service.port, options);
    bad.on('secure', () => resumed.push(bad.resumed));
    assert.match(`${await failure(bad)}`, /AUTH/);
    keyOfServer = key;
    await good();
    await good();
    assert.deepEqual(resumed, [false, true, true, false, true]);
  });

  test('time: a peer that says nothing, to either end', async (context) => {
    const timeout = 200;
    const agreed = 'by-protocol';
    const service = await Service.start(context, { auth: { offer, timeout, agreed } });
    const silent = call(service.port, {});
    silent.on('error', () => {});
    assert.equal(await service.refusal(), 'ERR_TCPCRYPT_AUTH_TIMEOUT');
    const other = await Service.start(context, {}, true);
    const socket = call(other.port, { auth: { offer, timeout, agreed } });
    assert.equal(await failure(socket), 'ERR_TCPCRYPT_AUTH_TIMEOUT');
  });
});

describe('peers that speak no authentication', () => {
  const notDemanded: Authentication = { offer, require: false };

  test('ENO-64: where a proof is demanded they are refused, and hear nothing', async (context) => {
    const service = await Service.start(context, {});
    const socket = call(service.port, { auth: { offer } });
    assert.equal(await failure(socket), 'ERR_TCPCRYPT_AUTH_UNAWARE');
    assert.deepEqual(service.received, []);
    const demanding = await Service.start(context, { auth: { offer } });
    const client = call(demanding.port, {});
    client.on('data', () => assert.fail('data'));
    client.on('error', () => {});
    client.on('end', () => assert.fail('end'));
    assert.equal(await demanding.refusal(), 'ERR_TCPCRYPT_AUTH_UNAWARE');
    assert.deepEqual(demanding.connections, []);
  });

  test('where none is demanded they are not disturbed', async (context) => {
    const service = await Service.start(context, {});
    const socket = call(service.port, { auth: notDemanded });
    assert.equal(await ask(socket), `answer to ${SECRET}`);
    assert.equal(socket.peer, undefined);
    const offering = await Service.start(context, { auth: notDemanded });
    assert.equal(await ask(call(offering.port, {})), `answer to ${SECRET}`);
    assert.equal(offering.connections[0]?.peer, undefined);
  });

  test('one end demands, the other one has a mechanism that authenticates both', async (context) => {
    const service = await Service.start(context, { auth: notDemanded });
    const socket = call(service.port, { auth: { offer } });
    await ask(socket);
    assert.equal(socket.peer?.name, 'k1');
    assert.equal(service.connections[0]?.peer?.name, 'k1');
  });

  test('plain TCP: refused where a proof is demanded, otherwise as ever', async (context) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (data) => {
        assert.equal(String(data), SECRET);
        socket.write(`answer to ${data}`);
      });
    });
    context.after(() => server.close());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    for (const mode of ['opportunistic', 'required'] as const) {
      const code = await failure(call(port, { auth: { offer }, mode }));
      assert.equal(code, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
    }
    const socket = call(port, { auth: notDemanded, allowHalfOpen: false });
    assert.equal(await ask(socket), `answer to ${SECRET}`);
    assert.deepEqual([socket.encrypted, socket.peer], [false, undefined]);
  });
});

describe('the application', () => {
  test('speaks at once and ends, at both ends: nothing is lost', async (context) => {
    const large = Buffer.alloc(300_000, 'x');
    const server = createServer({ auth: { offer }, allowHalfOpen: true }, (socket) => {
      assert.equal(socket.peer?.name, 'k1');
      socket.end(large);
      socket.resume();
    });
    context.after(() => server.close());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const socket = call((server.address() as AddressInfo).port, { auth: { offer } });
    socket.end(large);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    assert.deepEqual(Buffer.concat(chunks), large);
  });

  test('is HTTP', async (context) => {
    const web = http.createServer((request, response) => {
      const { peer } = request.socket as unknown as Socket;
      response.end(`hello ${peer?.name}, you asked for ${request.url}`);
    });
    const service = createServer({ auth: { offer } }, (socket) => web.emit('connection', socket));
    context.after(() => service.close());
    await once(service.listen(0, '127.0.0.1'), 'listening');
    const { port } = service.address() as AddressInfo;
    const createConnection = () => call(port, { auth: { offer } });
    const request = http.request({ createConnection, path: '/it', headers: { connection: 'close' } });
    const [response] = (await once(request.end(), 'response')) as [http.IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    assert.equal(Buffer.concat(chunks).toString(), 'hello k1, you asked for /it');
  });

  /** A server that is secure with whoever calls, and then says nothing. */
  const silent = (context: TestContext): Promise<Service> => Service.start(context, { aware: true }, true);

  test('gives up during authentication: closed, without an error', async (context) => {
    const { port } = await silent(context);
    for (const event of ['connect', 'secure', 'later']) {
      const socket = call(port, { auth: { offer } });
      socket.on('error', (error) => assert.fail(error));
      socket.on('ready', () => assert.fail('ready'));
      if (event === 'later') socket.on('secure', () => setTimeout(() => socket.destroy(), 20));
      else socket.on(event, () => socket.destroy());
      const [hadError] = await once(socket, 'close');
      assert.equal(hadError, false);
    }
  });

  test('aborts by a signal', async (context) => {
    const { port } = await silent(context);
    const abort = new AbortController();
    const socket = call(port, { auth: { offer }, signal: abort.signal });
    socket.on('secure', () => abort.abort());
    await assert.rejects(once(socket, 'ready'), { name: 'AbortError' });
  });

  test('closes the server during authentication: the connection is reset', async (context) => {
    const service = await Service.start(context, { auth: { offer } });
    const socket = call(service.port, { aware: true });
    socket.on('secure', () => setTimeout(() => service.server.close(), 20));
    const [error] = await once(socket, 'error');
    assert.equal((error as NodeJS.ErrnoException).code, 'ECONNRESET');
    assert.deepEqual([service.connections, service.refused], [[], []]);
  });
});

test('wrong use is an error at once', () => {
  const prover: Mechanism = knownKey({ key: material.hostKey });
  const wrong: EncryptionOptions[] = [
    { auth: { offer: [] } },
    { auth: { offer: [...offer, ...offer] } },
    { auth: { offer: [prover], require: true } },
    { auth: { offer, timeout: 0 } },
    { auth: { offer, agreed: 'somehow' as 'aware-bit' } },
    { auth: { offer }, aware: false },
  ];
  for (const options of wrong) {
    assert.throws(() => call(1, options), withCode('ERR_TCPCRYPT_ARGUMENT'));
    assert.throws(() => createServer(options), withCode('ERR_TCPCRYPT_ARGUMENT'));
  }
});
