/**
 * A program for a host of the lab. Configuration as JSON in its first argument; says as one line of JSON when it listens,
 * and one for each connection, what became of it.
 *
 *     server   authenticates, or answers anybody without a mechanism
 *     client   one connection, then it ends
 *     middle   the man in the middle, in front of a server
 */
import { once } from 'node:events';
import { authenticate, type Mechanism } from '#src/auth/index.js';
import type { Socket } from '#src/index.js';
import { corrected, manInTheMiddle } from './man-in-the-middle.js';
import { connected, listening } from './network.js';
import { outcomeOf } from './outcome.js';
import { type Material, type SettingName, settingOf } from './settings.js';

export interface AgentOptions {
  readonly part: 'server' | 'client' | 'middle';
  /** The server, from everybody's point of view. */
  readonly host: string;
  readonly port: number;
  readonly mechanism?: SettingName;
  readonly material: Material;
  readonly knownHosts: string;
  /** What the client says when it is authenticated. */
  readonly secret: string;
  /** What the man in the middle changes in the messages of authentication. */
  readonly lies?: 'none' | 'sessions' | 'agreement';
  /** The man in the middle sets the application-aware bit. */
  readonly aware?: boolean;
}

const options = JSON.parse(process.argv[2] ?? '{}') as AgentOptions;
const { part, host, port, mechanism, secret } = options;
const say = (line: unknown): void => console.log(JSON.stringify(line));
const setting = mechanism && settingOf(mechanism, options.material, options.knownHosts);

async function authenticated(socket: Socket, offer: Mechanism | undefined): Promise<unknown> {
  if (offer === undefined) return 'nobody asked';
  const outcome = await outcomeOf(
    authenticate(socket, { offer: [offer], agreed: 'by-protocol', timeout: 8000 }),
  );
  return typeof outcome === 'object' ? { name: outcome.name } : outcome;
}

switch (part) {
  case 'server':
    await listening(
      async (socket) => {
        const sessionId = socket.sessionId.toString('hex');
        const outcome = await authenticated(socket, setting?.server);
        socket.on('error', () => {});
        const received: Buffer[] = [];
        socket.on('data', (chunk: Buffer) => {
          received.push(chunk);
          socket.end(`answer to ${chunk}`);
        });
        if (!socket.closed) await once(socket, 'close');
        say({ sessionId, outcome, received: Buffer.concat(received).toString() });
      },
      { host: '0.0.0.0', port },
    );
    say({ listening: true });
    break;

  case 'client': {
    const socket = await connected(port, host);
    const sessionId = socket.sessionId.toString('hex');
    const outcome = await authenticated(socket, setting?.client);
    let received = '';
    if (!socket.destroyed) {
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        received += chunk;
      });
      socket.end(secret);
      await once(socket, 'close');
    }
    say({ sessionId, outcome, received });
    break;
  }

  case 'middle': {
    const change = options.lies === 'none' ? undefined : corrected(options.lies === 'agreement');
    const { aware = false } = options;
    const middle = await manInTheMiddle(port, change, { host, listen: { host: '0.0.0.0', port }, aware });
    middle.server.on('connection', (socket: Socket) => {
      socket.on('close', () =>
        say({
          sessionIds: middle.sessionIds.map((id) => id.toString('hex')),
          heard: Buffer.concat(middle.heard.fromClient).toString('latin1'),
        }),
      );
    });
    say({ listening: true });
    break;
  }
}
