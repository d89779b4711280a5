/** Cookies that are worthless on any other connection: over real tcpcrypt connections, with three HTTP servers. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import * as http from 'node:http';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import {
  type CookieProofOptions,
  checkCookieProof,
  cookieHeaders,
  cookieProof,
  cookieProofHook,
  createHttpCookie,
  environmentOf,
  handOverHeaders,
} from '#src/auth/index.js';
import type { Server, Socket } from '#src/index.js';
import { withCode } from '../support/code.js';
import { manInTheMiddle } from './support/man-in-the-middle.js';
import { connected, type KernelPart, kernelPart, listening } from './support/network.js';

const require = createRequire(import.meta.url);
const cookie = createHttpCookie();
const secrets = (id: string) => (id === cookie.id ? cookie.secret : undefined);

let kernel: KernelPart | undefined;
before(() => {
  kernel = kernelPart('http');
});
after(() => kernel?.undo());

interface Web {
  readonly port: number;
  readonly server: Server;
}

/** Answers with the id of the cookie, and what it would hand over to scripts and to servers behind it. */
const answer = (req: http.IncomingMessage) => ({
  cookie: req.tcpcrypt?.cookie,
  environment: environmentOf(req),
  headers: handOverHeaders(req),
});

async function overTcpcrypt(server: http.Server): Promise<Web> {
  return listening((socket) => server.emit('connection', socket));
}

const FRAMEWORKS: Record<string, (options: CookieProofOptions) => Promise<Web>> = {
  'node:http': (options) => {
    const middleware = cookieProof(options);
    return overTcpcrypt(
      http.createServer((req, res) => middleware(req, res, () => res.end(JSON.stringify(answer(req))))),
    );
  },
  Express: (options) => {
    const app = require('express')();
    app.use(cookieProof(options));
    app.get('/', (req: http.IncomingMessage, res: http.ServerResponse) =>
      res.end(JSON.stringify(answer(req))),
    );
    return overTcpcrypt(http.createServer(app));
  },
  Fastify: async (options) => {
    let server: http.Server | undefined;
    const app = require('fastify')({
      serverFactory: (handler: http.RequestListener) => {
        server = http.createServer(handler);
        return server;
      },
    });
    app.addHook('onRequest', cookieProofHook(options));
    app.get('/', (request: { raw: http.IncomingMessage }) => answer(request.raw));
    await app.ready();
    assert.ok(server !== undefined);
    return overTcpcrypt(server);
  },
};

interface Reply {
  readonly status: number | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly body:
    | { cookie?: string; environment: Record<string, string>; headers: Record<string, string> }
    | undefined;
}

async function get(socket: Socket, headers: Record<string, string>): Promise<Reply> {
  const request = http.request({
    createConnection: () => socket,
    headers: { ...headers, connection: 'close' },
  });
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  return {
    status: response.statusCode,
    headers: response.headers,
    body: body === '' ? undefined : JSON.parse(body),
  };
}

for (const [name, start] of Object.entries(FRAMEWORKS)) {
  describe(name, () => {
    test('a request with proof passes, and the server proves itself', async (context) => {
      const { port, server } = await start({ secrets });
      context.after(() => server.close());
      const socket = await connected(port);
      const reply = await get(socket, cookieHeaders(socket, cookie));
      assert.equal(reply.status, 200);
      assert.equal(reply.body?.cookie, cookie.id);
      checkCookieProof(socket, cookie, reply.headers);
      assert.throws(
        () => checkCookieProof(socket, createHttpCookie(), reply.headers),
        withCode('ERR_TCPCRYPT_AUTH_PROOF'),
      );
    });

    test('401: no proof, a malformed one, an unknown cookie, a proof for another connection', async (context) => {
      const { port, server } = await start({ secrets });
      context.after(() => server.close());
      const other = await connected(port);
      const foreign = cookieHeaders(other, cookie)['tcpcrypt-cookie'] ?? '';
      other.destroy();
      const stranger = await connected(port);
      const wrong = [
        {},
        { 'tcpcrypt-cookie': cookie.id },
        { 'tcpcrypt-cookie': `${cookie.id}.${'A'.repeat(43)}` },
        { 'tcpcrypt-cookie': `${cookie.id}.${'A'.repeat(5000)}` },
        { 'tcpcrypt-cookie': foreign },
        cookieHeaders(stranger, createHttpCookie()),
      ];
      stranger.destroy();
      for (const headers of wrong) {
        const reply = await get(await connected(port), headers);
        assert.equal(reply.status, 401);
        assert.equal(reply.headers['www-authenticate'], 'Tcpcrypt-Cookie');
        assert.equal(reply.headers['tcpcrypt-cookie-proof'], undefined);
      }
    });

    test('a man in the middle: neither the server accepts, nor does the client', async (context) => {
      const { port, server } = await start({ secrets });
      context.after(() => server.close());
      const middle = await manInTheMiddle(port);
      context.after(() => middle.server.close());
      const socket = await connected(middle.port);
      const reply = await get(socket, cookieHeaders(socket, cookie));
      assert.equal(reply.status, 401);
      assert.throws(
        () => checkCookieProof(socket, cookie, reply.headers),
        withCode('ERR_TCPCRYPT_AUTH_PROOF'),
      );
      const heard = Buffer.concat(middle.heard.fromClient).toString();
      assert.ok(heard.includes(cookie.id));
      assert.ok(!heard.includes(Buffer.from(cookie.secret).toString('base64url')));
    });

    test('optional proof; hand-over to scripts and to servers behind, forgeries dropped', async (context) => {
      const { port, server } = await start({ secrets, required: false });
      context.after(() => server.close());
      const socket = await connected(port);
      const sessionId = socket.sessionId.toString('hex');
      const reply = await get(socket, {
        'Tcpcrypt-Session-Id': 'forged',
        Tcpcrypt_Session_Cookie: 'forged',
        Accept: 'text/plain',
      });
      assert.equal(reply.status, 200);
      const { environment, headers } = reply.body ?? assert.fail();
      assert.deepEqual(environment, { TCPCRYPT_SESSION_ID: sessionId, TCPCRYPT_SESSION_ROLE: 'B' });
      assert.equal(headers['tcpcrypt-session-id'], sessionId);
      assert.equal(headers.accept, 'text/plain');
      assert.ok(!JSON.stringify(headers).includes('forged'));
    });
  });
}

test('reflection: the proof of the client is not the proof of the server', async (context) => {
  const { port, server } = await overTcpcrypt(
    http.createServer((req, res) => {
      const [, proof] = String(req.headers['tcpcrypt-cookie']).split('.');
      res.setHeader('tcpcrypt-cookie-proof', proof ?? '');
      res.end();
    }),
  );
  context.after(() => server.close());
  const socket = await connected(port);
  const { headers } = await get(socket, cookieHeaders(socket, cookie));
  assert.throws(() => checkCookieProof(socket, cookie, headers), withCode('ERR_TCPCRYPT_AUTH_PROOF'));
});

test('a plain connection has nothing to prove with', async () => {
  const { Socket } = await import('node:net');
  const plain = new Socket();
  assert.throws(() => cookieHeaders(plain, cookie), withCode('ERR_TCPCRYPT_NO_SESSION'));
});
