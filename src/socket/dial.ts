/** One TCP connection attempt to one address, with the ENO option on its SYN. */
import type { Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import { type EnoOutcome, enoOutcome, openEnoSocket } from '../kernel/eno-socket.js';
import { close } from '../kernel/libc.js';
import { activeOffer } from '../session/index.js';
import type { Encryption } from './options.js';
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
  const fd = openEnoSocket(target.family, {
    contents: activeOffer(encryption.teps),
    synTries: encryption.synTries,
  });
  try {
    target.prepare?.(fd);
  } catch (error) {
    close(fd);
    throw error;
  }
  const transport = transportOf(fd);
  const finish = (error: Error | undefined): void => {
    transport.off('error', finish);
    transport.off('close', closed);
    transport.off('connect', connected);
    if (error !== undefined) {
      transport.on('error', () => {});
      done(error);
      return;
    }
    let outcome: EnoOutcome;
    try {
      outcome = enoOutcome(fd);
      // "tcpcrypt down" during the handshake: the peer may count on encryption, so plaintext is no way out (ENO-36).
      if (outcome.result === 'plain' && outcome.reason === 'ERR_TCPCRYPT_KERNEL_ABSENT')
        throw new TcpcryptError(outcome.reason);
    } catch (failure) {
      reset(transport);
      done(failure as Error);
      return;
    }
    done(undefined, { transport, fd, outcome });
  };
  const connected = (): void => finish(undefined);
  const closed = (): void => finish(new Error('the connection attempt was given up'));
  transport.on('error', finish);
  transport.on('close', closed);
  transport.on('connect', connected);
  transport.connect({
    host: target.host,
    port: target.port,
    ...(target.localAddress === undefined ? {} : { localAddress: target.localAddress }),
    ...(target.localPort === undefined ? {} : { localPort: target.localPort }),
  });
  return transport;
}
