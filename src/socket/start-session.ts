import type { Socket as TcpSocket } from 'node:net';
import { type Negotiated, Session } from '../session/index.js';
import type { ChannelHandlers } from './channel-handlers.js';
import { lentRoom } from './lent-room.js';
import type { Encryption } from './options.js';
import type { Resuming } from './resuming.js';

/**
 * The session of a connection whose negotiation succeeded; what it resumed is erased. Without `room` data are lent, until
 * its owner has heard of them.
 */
export function startSession(
  negotiated: Negotiated,
  { ciphers, keyPairs, rekey, resumption }: Encryption,
  resuming: Resuming,
  transport: TcpSocket,
  room: ChannelHandlers['room'],
): Session {
  const { kind, tep } = negotiated;
  const session = new Session({
    negotiated,
    ciphers,
    keyPair: keyPairs && (() => keyPairs.current(tep)),
    rekeyAfterBytes: rekey.afterBytes,
    resumption: kind === 'resume' ? resuming.session : undefined,
    // The chain of a resumed session is in the cache already.
    keepResumable: resumption.keep && kind === 'fresh',
    ...(room === undefined ? LENT : { plaintextRoom: room }),
  });
  resuming.settle(kind, transport);
  return session;
}

/** However much it is, nothing of it stays. */
const LENT = { plaintextRoom: lentRoom, plaintextAtOnce: Number.POSITIVE_INFINITY };
