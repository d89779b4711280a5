/** What `listen` and `connect` say on stderr about a connection: people read a sentence, `--json` a line. */
import { describe, hex } from '../socket/describe.js';
import type { Socket } from '../socket/socket.js';

export class ConnectionReport {
  readonly #socket: Socket;
  readonly #json: boolean;
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

  /** "end": both directions ended in order; "reset"; or the error's code. */
  get outcome(): string {
    if (this.#error === undefined) return this.#ended ? 'end' : 'aborted';
    const code = (this.#error as NodeJS.ErrnoException).code ?? 'unknown';
    return code === 'ECONNRESET' || code === 'EPIPE' ? 'reset' : code;
  }

  #facts(): object {
    const { remoteAddress, remotePort, localAddress, localPort } = this.#socket;
    return { local: `${localAddress}:${localPort}`, remote: `${remoteAddress}:${remotePort}` };
  }

  #addresses: object = {};

  #ready(): void {
    const socket = this.#socket;
    this.#addresses = this.#facts();
    if (socket.encrypted) this.#sessionId = socket.sessionId;
    const description = describe(socket, this.#sessionId);
    if (this.#json) {
      this.#line({ event: socket.encrypted ? 'secure' : 'plain', ...this.#addresses, ...description });
    } else if (this.#sessionId !== undefined) {
      const { tepName, cipherName, role } = description;
      this.#say(`encrypted: ${tepName}, ${cipherName}, host ${role}\nsession ID ${hex(this.#sessionId)}`);
    } else {
      this.#say(`NOT encrypted: ${description.plainReason}`);
    }
  }

  #close(): void {
    const { bytesRead, bytesWritten } = this.#socket;
    if (this.#json) {
      this.#line({
        event: 'end',
        ...this.#addresses,
        ...describe(this.#socket, this.#sessionId),
        bytesReceived: bytesRead,
        bytesSent: bytesWritten,
        how: this.outcome,
        ...(this.#error === undefined ? {} : { message: this.#error.message }),
      });
    } else if (this.#error !== undefined) {
      this.#say(`${this.#error.message} [${this.outcome}]`);
    }
  }

  #line(object: object): void {
    process.stderr.write(`${JSON.stringify(object)}\n`);
  }

  #say(text: string): void {
    for (const line of text.split('\n')) process.stderr.write(`tcpcrypt: ${line}\n`);
  }
}
