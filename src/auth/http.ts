/**
 * HTTP: a cookie that is worthless on any other connection. Instead of the secret, the client sends a proof:
 *
 *     Tcpcrypt-Cookie: <id>.<proof>           proof = base64url(HMAC-SHA256(K, label, role of who proves, session ID))
 *
 * and the server answers with its own, so that the client knows that whoever answers knows the secret, too:
 *
 *     Tcpcrypt-Cookie-Proof: <proof>
 *
 * Whoever reads such a header, in a log or in the middle, can do nothing with it.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { TcpcryptError } from '../errors.js';
import { prefixed } from './bytes.js';
import { check } from './check.js';
import type { Role } from './hello.js';
import { purposeKey } from './labels.js';
import { SHARED_KEY_MIN } from './shared-key.js';

/** What the server hands out at log-in, over a connection that it trusts, and both keep. */
export interface HttpCookie {
  /** Without dot, blank or comma; not secret. */
  readonly id: string;
  readonly secret: Uint8Array;
}

/** The session below a request. */
export interface HttpSession {
  readonly sessionId: Uint8Array;
  readonly role: Role;
}

/** Options of {@link cookieProof} and {@link cookieProofHook}. */
export interface CookieProofOptions {
  /** The secret of the cookie with that id, or undefined. */
  readonly secrets: (id: string) => Uint8Array | undefined | PromiseLike<Uint8Array | undefined>;
  /** Answer 401 to requests without a valid proof (default), or let them pass, without `req.tcpcrypt.cookie`. */
  readonly required?: boolean;
  /** The session of a connection; default: the properties of the tcpcrypt socket that the request came by. */
  readonly session?: (socket: Duplex) => HttpSession | undefined;
}

/** What the middleware leaves in `req.tcpcrypt`. */
export interface HttpIdentity extends HttpSession {
  /** Id of the cookie that was proved. */
  readonly cookie: string | undefined;
}

declare module 'node:http' {
  interface IncomingMessage {
    tcpcrypt?: HttpIdentity;
  }
}

const REQUEST_HEADER = 'tcpcrypt-cookie';
const RESPONSE_HEADER = 'tcpcrypt-cookie-proof';
const HAND_OVER_PREFIX = 'tcpcrypt-session-';
/** Tuned by us. */
const HEADER_LIMIT = 512;
const SECRET_LENGTH = 32;

/** A new cookie, 128 random bits of id and 256 of secret. */
export const createHttpCookie = (): HttpCookie => ({
  id: randomBytes(16).toString('base64url'),
  secret: randomBytes(SECRET_LENGTH),
});

/**
 * Middleware for node:http, Express and everything that calls `(req, res, next)`. Puts the session into
 * `req.tcpcrypt`, answers 401 when a proof is missing or wrong.
 */
export function cookieProof(
  options: CookieProofOptions,
): (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void {
  return (req, res, next) => {
    judge(req, res, options).then((accepted) => {
      if (accepted) next();
      else refuse(res);
    }, next);
  };
}

/** The same as an `onRequest` hook of Fastify. */
export function cookieProofHook(
  options: CookieProofOptions,
): (
  request: { readonly raw: IncomingMessage },
  reply: { readonly raw: ServerResponse; hijack(): unknown },
) => Promise<void> {
  return async (request, reply) => {
    if (await judge(request.raw, reply.raw, options)) return;
    reply.hijack();
    refuse(reply.raw);
  };
}

async function judge(
  req: IncomingMessage,
  res: ServerResponse,
  options: CookieProofOptions,
): Promise<boolean> {
  const { secrets, required = true, session = sessionOf } = options;
  const found = session(req.socket);
  const [id, proof] = parse(req.headers[REQUEST_HEADER]);
  const secret = id === undefined ? undefined : await secrets(id);
  let cookie: string | undefined;
  if (found !== undefined && proof !== undefined && secret !== undefined) {
    const client = found.role === 'A' ? 'B' : 'A';
    if (timingSafeEqual(proof, proofOf(secret, found, client))) cookie = id;
    // Under both policies: a client that asks for a proof gets one only if it gave one.
    if (cookie !== undefined) {
      res.setHeader(RESPONSE_HEADER, proofOf(secret, found, found.role).toString('base64url'));
    }
  }
  if (found !== undefined) req.tcpcrypt = { ...found, cookie };
  return cookie !== undefined || !required;
}

function refuse(res: ServerResponse): void {
  res.writeHead(401, { 'WWW-Authenticate': 'Tcpcrypt-Cookie', 'Content-Length': '0' });
  res.end();
}

/** Id and proof of exactly 32 bytes, or nothing. */
function parse(header: string | string[] | undefined): [string?, Buffer?] {
  if (typeof header !== 'string' || header.length > HEADER_LIMIT) return [];
  const [, id, encoded] = /^([^\s.,]+)\.([\w-]{43})$/.exec(header) ?? [];
  if (id === undefined || encoded === undefined) return [];
  return [id, Buffer.from(encoded, 'base64url')];
}

/**
 * Headers for a request that will go out by this socket, which must be ready.
 * @throws ERR_TCPCRYPT_NO_SESSION when the connection is not encrypted
 */
export function cookieHeaders(socket: Duplex, { id, secret }: HttpCookie): Record<string, string> {
  check(/^[^\s.,]+$/.test(id), 'cookie: id');
  const session = sessionOf(socket);
  if (session === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
  return { [REQUEST_HEADER]: `${id}.${proofOf(secret, session, session.role).toString('base64url')}` };
}

/**
 * Checks that whoever answered knows the secret, at the other end of this connection.
 * @throws ERR_TCPCRYPT_AUTH_PROOF, ERR_TCPCRYPT_NO_SESSION
 */
export function checkCookieProof(socket: Duplex, { secret }: HttpCookie, headers: IncomingHttpHeaders): void {
  const session = sessionOf(socket);
  if (session === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
  const [, proof] = parse(`server.${String(headers[RESPONSE_HEADER])}`);
  const expected = proofOf(secret, session, session.role === 'A' ? 'B' : 'A');
  if (proof === undefined || !timingSafeEqual(proof, expected))
    throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
}

/**
 * For scripts on the server (CGI, PHP, child processes): environment variables with session ID, role and cookie, empty
 * when the connection is not encrypted.
 */
export function environmentOf(req: IncomingMessage): Record<string, string> {
  const session = req.tcpcrypt ?? sessionOf(req.socket);
  if (session === undefined) return {};
  const cookie = req.tcpcrypt?.cookie;
  return {
    TCPCRYPT_SESSION_ID: Buffer.from(session.sessionId).toString('hex'),
    TCPCRYPT_SESSION_ROLE: session.role,
    ...(cookie === undefined ? {} : { TCPCRYPT_SESSION_COOKIE: cookie }),
  };
}

/**
 * For servers behind this one: the headers of the request, and the same information as `Tcpcrypt-Session-Id`,
 * `-Role` and `-Cookie`. Headers of that name that the client sent itself are dropped, in every spelling that a
 * server might take for them.
 */
export function handOverHeaders(req: IncomingMessage): IncomingHttpHeaders {
  const headers: IncomingHttpHeaders = {};
  for (const [name, value] of Object.entries(req.headers)) {
    if (!name.toLowerCase().replaceAll('_', '-').startsWith(HAND_OVER_PREFIX)) headers[name] = value;
  }
  for (const [name, value] of Object.entries(environmentOf(req))) {
    headers[name.toLowerCase().replaceAll('_', '-')] = value;
  }
  return headers;
}

function sessionOf(socket: Duplex): HttpSession | undefined {
  const { role } = socket as Partial<HttpSession>;
  // Without a role there is no session, and asking for its ID would throw.
  if (role === undefined) return undefined;
  const { sessionId } = socket as unknown as HttpSession;
  return { sessionId, role };
}

function proofOf(secret: Uint8Array, { sessionId }: HttpSession, prover: Role): Buffer {
  check(secret.length >= SHARED_KEY_MIN, `the secret of a cookie needs ${SHARED_KEY_MIN} bytes or more`);
  return createHmac('sha256', purposeKey(secret, 'http cookie'))
    .update(prefixed(prover))
    .update(prefixed(sessionId))
    .digest();
}
