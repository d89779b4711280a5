/** What `listen` and `connect` say on stderr about a connection: people read a sentence, `--json` a line. */
import { isIPv6 } from 'node:net';
import { describe, hex, type PeerDescription } from '../socket/describe.js';
import type { Socket } from '../socket/socket.js';

export class ConnectionReport {
  readonly #socket: Socket;
  readonly #json: boolean;
  /** As long as the connection is open, it can tell. */
  #addresses: { readonly local?: string; readonly remote?: string } = {};
  #sessionId: Buffer | undefined;
  #ended = false;
  #error: Error | undefined;

  /** Listens to `socket` from before 'ready' (or, for a server's connection, right at 'connection'). */
  constructor(socket: Socket, json: boolean) {
    this.#socket = socket;
    this.#json = json;
    if (socket.pending) socket.once('ready', () => this.#ready());
    else this.#ready();
    socket.once('end', () => {
      this.#ended = true;
    });
    socket.once('error', (error) => {
      this.#error = error;
    });
    socket.once('close', () => this.#close());
  }

  /**
   * How the connection ended: "end", both directions in order; "reset", by the peer; "aborted", by us; or the
   * error's code.
   */
  get outcome(): string {
    if (this.#error === undefined) return this.#ended && this.#socket.writableFinished ? 'end' : 'aborted';
    return outcomeOf(this.#error);
  }

  #ready(): void {
    const socket = this.#socket;
    this.#addresses = {
      local: endpoint(socket.localAddress, socket.localPort),
      remote: endpoint(socket.remoteAddress, socket.remotePort),
    };
    if (socket.encrypted) this.#sessionId = socket.sessionId;
    const description = describe(socket, this.#sessionId);
    if (this.#json) {
      line({ event: socket.encrypted ? 'secure' : 'plain', ...this.#addresses, ...description });
    } else if (this.#sessionId !== undefined) {
      const { tepName, cipherName, role, peer } = description;
      say(`encrypted: ${tepName}, ${cipherName}, host ${role}\nsession ID ${hex(this.#sessionId)}`);
      if (peer !== undefined) say(`authenticated: ${peerText(peer)}`);
    } else {
      say(`NOT encrypted: ${description.plainReason}`);
    }
  }

  #close(): void {
    const { bytesRead, bytesWritten } = this.#socket;
    if (this.#json) {
      line({
        event: 'end',
        ...this.#addresses,
        ...describe(this.#socket, this.#sessionId),
        bytesReceived: bytesRead,
        bytesSent: bytesWritten,
        how: this.outcome,
        ...(this.#error === undefined ? {} : { message: this.#error.message }),
      });
    } else if (this.#error !== undefined) {
      say(sentence(this.#error));
    }
  }
}

/** The report on a connection, or a server, that never got as far as 'ready'. */
export function reportFailure(error: Error, json: boolean, remote?: string): void {
  const at = remote === undefined ? {} : { remote };
  if (json) line({ event: 'end', ...at, how: outcomeOf(error), message: error.message });
  else say(remote === undefined ? sentence(error) : `${remote}: ${sentence(error)}`);
}

export function line(object: object): void {
  process.stderr.write(`${JSON.stringify(object)}\n`);
}

export function say(text: string): void {
  for (const part of text.split('\n')) process.stderr.write(`tcpcrypt: ${part}\n`);
}

/** An address with a port, IPv6 in brackets. */
export const endpoint = (address: string | undefined, port: number | undefined): string =>
  isIPv6(address ?? '') ? `[${address}]:${port}` : `${address}:${port}`;

const peerText = ({ mechanism, name, fingerprint }: PeerDescription): string =>
  [name, `by ${mechanism}`, fingerprint].filter((part) => part !== undefined && part !== '').join(' ');

function outcomeOf(error: NodeJS.ErrnoException): string {
  const code = error.code ?? 'unknown';
  return code === 'ECONNRESET' || code === 'EPIPE' ? 'reset' : code;
}

function sentence(error: NodeJS.ErrnoException): string {
  const cause =
    error.cause instanceof Error && error.code?.startsWith('ERR_') ? `: ${error.cause.message}` : '';
  return `${error.message || 'failed'}${cause} [${error.code ?? error.name}]`;
}
