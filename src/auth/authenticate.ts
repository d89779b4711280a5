/**
 * Authentication of a connection that has a session ID, before its application data. In messages:
 *
 *     A                                             B
 *     HELLO  ───────────────────────────────────▶
 *            ◀───────────────────────────────────  HELLO              both at once
 *     AGREE  ───────────────────────────────────▶
 *            ◀───────────────────────────────────  AGREE              hash of both HELLOs
 *     PROOF… ◀──────────────────────────────────▶  PROOF…             runs of mechanisms, B proves first
 *     DONE   ───────────────────────────────────▶
 *            ◀───────────────────────────────────  DONE               each when it has checked its peer
 *     ═══════════════ application data ══════════════
 *
 * Whoever refuses says REFUSE with a coarse reason, and resets. AGREE gives a clear error for a changed negotiation;
 * what makes a change impossible is that every proof covers both HELLOs.
 */
import type { Duplex } from 'node:stream';
import { TcpcryptError } from '../errors.js';
import { malformed, u16 } from './bytes.js';
import { check } from './check.js';
import {
  DEFAULT_TIMEOUT,
  HELLO_LIMIT,
  HINT_LIMIT,
  MECHANISM_LIMIT,
  MECHANISMS,
  REFUSAL_TIMEOUT,
  type Refusal,
  SESSION_ID_LIMIT,
  TYPE,
} from './constants.js';
import { choose, encodeHello, type Hello, parseHello, type Role, type Run } from './hello.js';
import { labelledHash } from './labels.js';
import type { Exchange, Mechanism, Peer } from './mechanism.js';
import { MessageStream } from './message-stream.js';

/** A connection as `connect` and `createServer` make it; any Duplex with a session ID and a role will do. */
export interface AuthenticableSocket extends Duplex {
  readonly sessionId: Uint8Array;
  readonly role: Role | undefined;
  /** The peer's application-aware bit (RFC 8547 §4.2). */
  readonly peerAware?: boolean | undefined;
  readonly remoteAddress?: string | undefined;
  resetAndDestroy?(): unknown;
  /** Called when authentication fails: nobody shall resume this session (RFC 8548 §3.5). */
  flushResumption?(): unknown;
}

/** What an end offers and demands; also the option `auth` of `connect` and `createServer`. */
export interface Authentication {
  /** What we can prove and check, most preferred first. */
  readonly offer: readonly Mechanism[];
  /**
   * Whether the peer must prove who it is. Default: whether one of `offer` can check a proof. With `false` an
   * unauthenticated peer is accepted, and one that does not speak this protocol is not disturbed.
   */
  readonly require?: boolean;
  /**
   * How the peer is known to speak this protocol: by its application-aware bit (default), or because the
   * application's own protocol says so.
   */
  readonly agreed?: 'aware-bit' | 'by-protocol';
  /** Milliseconds for all of it; default 10,000. */
  readonly timeout?: number;
}

/** Options of {@link authenticate}. */
export interface AuthenticateOptions extends Authentication {
  readonly signal?: AbortSignal;
}

/** Whether the peer must prove who it is. */
export const demandsProof = ({ offer, require }: Authentication): boolean =>
  require ?? offer.some(({ canVerify }) => canVerify);

/** What can be judged before there is a connection. @throws ERR_TCPCRYPT_ARGUMENT */
export function checkAuthentication(options: Authentication): void {
  const { offer, require, agreed, timeout = DEFAULT_TIMEOUT } = options;
  check(Array.isArray(offer) && offer.length > 0, 'offer: at least one mechanism');
  check(offer.length <= MECHANISM_LIMIT, 'offer: too many mechanisms');
  check(new Set(offer.map(({ name }) => name)).size === offer.length, 'offer: a mechanism twice');
  check(
    require !== true || offer.some(({ canVerify }) => canVerify),
    'require: no mechanism of the offer could check a proof',
  );
  check([undefined, 'aware-bit', 'by-protocol'].includes(agreed), `agreed: ${String(agreed)}`);
  check(Number.isInteger(timeout) && timeout > 0 && timeout < 2 ** 31, `timeout: ${String(timeout)}`);
}

/**
 * Authenticates both ends of `socket` to each other, as far as they demand it. Call it on both ends before anything
 * is read or written. When it has resolved, application data follows; when it rejects, the connection is reset and
 * nothing was delivered.
 *
 * @returns who the peer is; undefined when it proved nothing and `require` is false
 * @throws ERR_TCPCRYPT_NO_SESSION on a plain connection, ERR_TCPCRYPT_ARGUMENT, every ERR_TCPCRYPT_AUTH_… of the
 *   table of errors, the socket's own error, the reason of `signal`
 */
export async function authenticate(
  socket: AuthenticableSocket,
  options: AuthenticateOptions,
): Promise<Peer | undefined> {
  let stream: MessageStream | undefined;
  let cleanUp = (): void => {};
  try {
    options.signal?.throwIfAborted();
    checkAuthentication(options);
    const us = ourHello(socket, options);
    if ((options.agreed ?? 'aware-bit') === 'aware-bit' && socket.peerAware !== true) {
      if (!us.demand) return undefined;
      throw new TcpcryptError('ERR_TCPCRYPT_AUTH_UNAWARE');
    }
    const messages = new MessageStream(socket);
    stream = messages;
    cleanUp = limit(messages, options);
    const peer = await Promise.race([
      handshake(messages, us, options.offer, socket.remoteAddress),
      messages.failed,
    ]);
    messages.release();
    return peer;
  } catch (error) {
    await reset(socket, stream, error);
    throw error;
  } finally {
    cleanUp();
  }
}

function ourHello(socket: AuthenticableSocket, options: Authentication): Hello {
  const { offer } = options;
  const { sessionId, role } = socket;
  if (role === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
  check(sessionId.length > 0 && sessionId.length <= SESSION_ID_LIMIT, 'session ID');
  const entries = offer
    .filter(({ canProve, canVerify, fits }) => (canProve || canVerify) && (fits === undefined || fits(role)))
    .map(({ name, canProve, canVerify, hint }) => {
      check(hint.length <= HINT_LIMIT, `${name}: hint of ${hint.length} bytes`);
      return { mechanism: MECHANISMS[name].id, canProve, canVerify, hint };
    });
  check(entries.length > 0, 'offer: no mechanism that could be used in this role');
  const demand = demandsProof(options);
  check(
    !demand || entries.some(({ canVerify }) => canVerify),
    'require: nothing to check a proof in this role',
  );
  return { role, sessionId, demand, entries };
}

/** Bounds the time. @returns what takes the bounds away */
function limit(
  stream: MessageStream,
  { timeout = DEFAULT_TIMEOUT, signal }: AuthenticateOptions,
): () => void {
  const timer = setTimeout(() => stream.fail(new TcpcryptError('ERR_TCPCRYPT_AUTH_TIMEOUT')), timeout);
  const aborted = (): void => stream.fail(signal?.reason);
  signal?.addEventListener('abort', aborted, { once: true });
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  };
}

async function handshake(
  stream: MessageStream,
  us: Hello,
  offer: readonly Mechanism[],
  remoteAddress: string | undefined,
): Promise<Peer | undefined> {
  const ours = encodeHello(us);
  stream.send(TYPE.hello, ours);
  const theirs = await stream.receive(TYPE.hello, HELLO_LIMIT);
  if (theirs.equals(ours)) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_REFLECTED');
  const them = parseHello(theirs);
  if (them.role === us.role) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_ROLE');
  // Only a clumsy man in the middle forwards this; the others are found by the proofs.
  if (!Buffer.from(us.sessionId).equals(them.sessionId)) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_SESSION');

  const byRole = us.role === 'A' ? [ours, theirs] : [theirs, ours];
  const runs = us.role === 'A' ? choose(us, them) : choose(them, us);
  const transcript = labelledHash('transcript', [us.sessionId, ...byRole]);
  const agreement = labelledHash('agree', byRole);
  stream.send(TYPE.agree, agreement);
  const agreed = stream.receive(TYPE.agree, agreement.length).then((theirAgreement) => {
    if (!theirAgreement.equals(agreement)) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_DOWNGRADED');
  });

  agreed.catch(() => {}); // whoever needs it awaits it

  const peers: Peer[] = [];
  /** Our proofs, in whichever run. */
  const sent: Buffer[] = [];
  for (const run of runs) {
    const mechanism = offer.find(({ name }) => MECHANISMS[name].id === run.mechanism);
    const entry = them.entries.find(({ mechanism }) => mechanism === run.mechanism);
    if (mechanism === undefined || entry === undefined)
      throw new TcpcryptError('ERR_TCPCRYPT_AUTH_NO_MECHANISM');
    const exchange = exchangeOf(stream, agreed, us.role, run, mechanism, transcript, sent, {
      peerHint: Buffer.from(entry.hint),
      remoteAddress,
    });
    const peer = await mechanism.run(exchange);
    if (peer === undefined && exchange.verifying) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
    if (peer !== undefined) peers.push(peer);
  }
  await agreed;
  stream.send(TYPE.done, new Uint8Array());
  await stream.receive(TYPE.done, 0);
  // What we demanded ran first when we are A, last when we are B.
  return us.role === 'A' ? peers[0] : peers.at(-1);
}

function exchangeOf(
  stream: MessageStream,
  agreed: Promise<void>,
  role: Role,
  run: Run,
  { name }: Mechanism,
  transcript: Buffer,
  sent: Buffer[],
  known: Pick<Exchange, 'peerHint' | 'remoteAddress'>,
): Exchange {
  const number = u16(run.mechanism);
  return {
    ...known,
    role,
    proving: run.provers.includes(role),
    verifying: run.provers.includes(role === 'A' ? 'B' : 'A'),
    binding: (prover) => labelledHash(`binding ${name}`, [prover, transcript]),
    send: (body) => {
      const message = Buffer.concat([number, body]);
      sent.push(message);
      stream.send(TYPE.proof, message);
    },
    receive: async (limit) => {
      await agreed;
      const message = await stream.receive(TYPE.proof, number.length + limit);
      if (sent.some((own) => own.equals(message))) throw new TcpcryptError('ERR_TCPCRYPT_AUTH_REFLECTED');
      if (message.length < number.length || message.readUInt16BE() !== run.mechanism)
        throw malformed('another mechanism');
      return message.subarray(number.length);
    },
  };
}

/** Tells the peer, as far as it is there, and resets. */
async function reset(
  socket: AuthenticableSocket,
  stream: MessageStream | undefined,
  error: unknown,
): Promise<void> {
  if (stream !== undefined) {
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, REFUSAL_TIMEOUT);
    });
    await Promise.race([stream.refuse(refusalFor(error)), patience]);
    clearTimeout(timer);
    stream.release();
  }
  socket.on('error', () => {});
  socket.flushResumption?.();
  if (socket.resetAndDestroy === undefined) socket.destroy();
  else socket.resetAndDestroy();
}

function refusalFor(error: unknown): Refusal {
  const code = error instanceof TcpcryptError ? error.code : '';
  switch (code) {
    case 'ERR_TCPCRYPT_AUTH_NO_MECHANISM':
      return 'mechanism';
    case 'ERR_TCPCRYPT_AUTH_TIMEOUT':
      return 'time';
    case 'ERR_TCPCRYPT_AUTH_GUESSES':
      return 'attempts';
    case 'ERR_TCPCRYPT_AUTH_VERSION':
    case 'ERR_TCPCRYPT_AUTH_MESSAGE':
    case 'ERR_TCPCRYPT_AUTH_TOO_LONG':
      return 'protocol';
    default:
      return 'authentication';
  }
}
