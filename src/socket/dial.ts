/** One TCP connection attempt to one address, with the ENO option on its SYN. */
import type { Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import {
  type EnoOffer,
  type EnoOutcome,
  enoStateBytes,
  openEnoSocket,
  outcomeOf,
} from '../kernel/eno-socket.js';
import { close } from '../kernel/libc.js';
import { activeOffer, type ResumptionAttempt, resumptionOffer } from '../session/index.js';
import { connectBare, givenUp, learnToConnect } from './bare-connect.js';
import type { Encryption } from './options.js';
import { peerOfAddress, peerOfDestination } from './session-cache.js';
import { reset, transportOf } from './transport.js';

export interface DialTarget {
  /** A literal address. */
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  /** Sets further options on the descriptor before it connects. */
  readonly prepare?: ((fd: number) => void) | undefined;
}

export interface Dialled {
  readonly transport: TcpSocket;
  readonly fd: number;
  readonly outcome: EnoOutcome;
  /** `struct tcp_eno_state`, from which the outcome is read. */
  readonly state?: Buffer | undefined;
  /** For a connection that this end opened. */
  readonly opened?: Opened;
}

export interface Opened {
  /** Under which the session is kept. */
  readonly peer: string;
  /** What the SYN proposed to resume; its secret is the receiver's. */
  readonly attempt: ResumptionAttempt | undefined;
}

/**
 * Connects. Calls back exactly once: with the connection, from which nobody has read yet, or with the error
 * of the operating system (ECONNREFUSED, ETIMEDOUT, …).
 * @returns the transport, to be destroyed by whoever loses patience
 * @throws ERR_TCPCRYPT_KERNEL_ABSENT
 */
export function dial(
  target: DialTarget,
  encryption: Encryption,
  done: (error: Error | undefined, dialled?: Dialled) => void,
): TcpSocket {
  const { offer, opened } = offerTo(target, encryption);
  const { resumption } = encryption;
  const lost = (): void => {
    if (opened.attempt !== undefined) resumption.cache.settle(opened.attempt, 'lost');
  };
  let fd: number;
  try {
    fd = openEnoSocket(target.family, offer);
  } catch (error) {
    lost();
    throw error;
  }
  try {
    target.prepare?.(fd);
  } catch (error) {
    lost();
    close(fd);
    throw error;
  }
  const finish = (error: Error | undefined): void => {
    if (error !== undefined) {
      lost();
      done(error);
      return;
    }
    let state: Buffer | undefined;
    let outcome: EnoOutcome;
    try {
      state = enoStateBytes(fd);
      outcome = outcomeOf(state);
      // "tcpcrypt down" during the handshake: the peer may count on encryption, so plaintext is no way out (ENO-36).
      if (outcome.result === 'plain' && outcome.reason === 'ERR_TCPCRYPT_KERNEL_ABSENT')
        throw new TcpcryptError(outcome.reason);
    } catch (failure) {
      lost();
      reset(transport);
      done(failure as Error);
      return;
    }
    done(undefined, { transport, fd, outcome, state, opened });
  };
  const bare = target.localPort === undefined ? connectBare(fd, target, finish) : undefined;
  const transport = bare ?? connectByNode(fd, target, finish);
  return transport;
}

/** The readable twin of {@link connectBare}. */
function connectByNode(
  fd: number,
  { host, port, localAddress, localPort }: DialTarget,
  connected: (error: Error | undefined) => void,
): TcpSocket {
  const transport = transportOf(fd);
  const finish = (error: Error | undefined): void => {
    transport.off('error', finish);
    transport.off('close', closed);
    transport.off('connect', established);
    if (error !== undefined) transport.on('error', () => {});
    connected(error);
  };
  const established = (): void => finish(undefined);
  const closed = (): void => finish(givenUp());
  transport.on('error', finish);
  transport.on('close', closed);
  transport.on('connect', established);
  learnToConnect(transport);
  transport.connect({
    host,
    port,
    ...(localAddress === undefined ? {} : { localAddress }),
    ...(localPort === undefined ? {} : { localPort }),
  });
  return transport;
}

/** What the SYN says: the resumption of an earlier session with this destination, or a fresh offer. */
function offerTo(
  { host, port }: DialTarget,
  { teps, ciphers, synTries, aware, roleB: b, mandatoryAware, resumption }: Encryption,
): { readonly offer: EnoOffer; readonly opened: Opened } {
  const peer = peerOfDestination(host, port);
  const found = resumption.resume
    ? resumption.cache.open([peer, peerOfAddress(host)], { teps, ciphers })
    : undefined;
  if (found === undefined) {
    return {
      offer: { contents: activeOffer(teps, { aware, b }), synTries, mandatoryAware },
      opened: { peer, attempt: undefined },
    };
  }
  const { attempt, nonce } = found;
  const { contents, expect } = resumptionOffer(attempt.session, nonce, teps, { aware, b });
  return { offer: { contents, expect, synTries, mandatoryAware }, opened: { peer, attempt } };
}
