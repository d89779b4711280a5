/**
 * Passes one connection on: application ↔ daemon (plain, on this machine) and daemon ↔ far host (a channel).
 * Per direction bytes, end of file (FINp ↔ FIN) and reset (RST ↔ RST) arrive as what they were; each side is
 * read only as fast as the other one writes, so memory is bounded by two socket buffers. A reset does not overtake what
 * was sent before it.
 *
 * Both sides are reset when this process is killed: an end of file, or a hole through which the application's
 * next bytes could reach the wire in plaintext, would be worse.
 */
import type { Socket as TcpSocket } from 'node:net';
import { bytesNotSent } from '../kernel/libc.js';
import { BareSocket, own, type TcpOwner } from '../socket/bare-socket.js';
import { Channel } from '../socket/channel.js';
import type { ChannelHandlers } from '../socket/channel-handlers.js';
import type { Dialled } from '../socket/dial.js';
import type { Encryption } from '../socket/options.js';
import { receive } from '../socket/receive.js';
import { sendLent } from '../socket/send.js';
import { descriptorOf, errorAtEnd, lingerOnceEnded, reset } from '../socket/transport.js';

/**
 * Tuned by us: milliseconds that a reset waits for a peer which does not read; until the first look at it, and between two
 * looks at most, as the pause doubles. Many may wait at once.
 */
const RESET_PATIENCE = 2_000;
const FIRST_LOOK = 5;
const LAST_LOOK = 160;

/** How a relayed connection ended. */
export type Ending =
  | { readonly how: 'end' }
  /** The application, or the local server, reset it; or the far host did. */
  | { readonly how: 'reset'; readonly by: 'local' | 'far' }
  | { readonly how: 'error'; readonly error: Error };

export interface RelayObserver {
  /** The far side can carry data: encrypted, or plain. */
  onReady(relay: Relay): void;
  /** Once: both sides are closed, or about to be reset. */
  onEnd(relay: Relay, ending: Ending): void;
  /** The local side, where it was {@link Relay.join}ed, is closed. */
  onLocalClosed?(): void;
}

export class Relay implements TcpOwner {
  readonly channel: Channel;
  readonly #observer: RelayObserver;
  #local: TcpSocket | undefined;
  #ready = false;
  #over = false;
  #farClosed = false;
  #localClosed = false;
  /** The local side ended before the far side was ready. */
  #localEnded = false;
  /** What came in one piece with the end of the key exchange, before there was a local side: one read at most. */
  #early: Uint8Array[] = [];
  #earlyEnd = false;

  /**
   * Starts with the far side alone; what it sends waits, mostly in its socket, until {@link join}.
   * Of both sides' sockets TCP_NODELAY is set, and NO_LINGER.
   */
  constructor(far: Dialled, encryption: Encryption, observer: RelayObserver) {
    this.#observer = observer;
    lingerOnceEnded(far.transport);
    const handlers: ChannelHandlers = {
      onReady: () => this.#becomeReady(),
      onData: (data) => {
        if (this.#local === undefined) {
          this.#early.push(Buffer.from(data));
          this.channel.pause();
        } else if (!sendLent(this.#local, data)) this.channel.pause();
      },
      onEnd: () => {
        if (this.#local === undefined) this.#earlyEnd = true;
        else {
          this.#local.end();
          this.channel.resume(); // a stream that has been ended has no 'drain', and there is the peer's FIN to read
        }
      },
      onDrain: () => {
        if (this.#ready) this.#local?.resume();
      },
      onClose: (error) => this.#handleFarClosed(error),
    };
    this.channel = new Channel(far.transport, far.fd, far.outcome, encryption, handlers, far.opened);
  }

  /** Whether the far side has been able to carry data. */
  get wasReady(): boolean {
    return this.#ready;
  }

  /** Brings the local side in; from now on bytes flow. */
  join(local: TcpSocket): void {
    this.#local = local;
    own(local, this);
    if (this.#over) {
      reset(local);
      return;
    }
    lingerOnceEnded(local);
    if (!(local instanceof BareSocket)) {
      const listens = receive(local, (lent) => this.handleData(lent));
      local.pause();
      if (!listens) local.on('data', (chunk) => this.handleData(chunk));
    }
    if (this.#ready) this.#flow(local);
  }

  /** @internal Of the local side, as are the others. */
  handleData(lent: Uint8Array): void {
    if (!this.channel.writeLent(lent)) this.#local?.pause();
  }

  /** @internal */
  handleDrain(): void {
    this.channel.resume();
  }

  /** @internal */
  handleError(): void {} // handleClosed follows

  /** Resets both sides at once. */
  abort(error?: Error): void {
    this.#finish(error === undefined ? { how: 'reset', by: 'local' } : { how: 'error', error });
    this.channel.abort(error);
    if (this.#local !== undefined) reset(this.#local);
  }

  #becomeReady(): void {
    this.#ready = true;
    const joined = this.#local;
    this.#observer.onReady(this);
    if (joined !== undefined) this.#flow(joined);
    // Whatever came along with the end of the key exchange must wait for somebody who takes it.
    else if (this.#local === undefined) this.channel.pause();
  }

  #flow(local: TcpSocket): void {
    for (const data of this.#early.splice(0)) local.write(data);
    if (this.#earlyEnd) local.end();
    if (this.#localEnded) this.channel.end();
    local.resume();
    if (!local.writableNeedDrain) this.channel.resume();
  }

  /** @internal */
  handleEnd(): void {
    const local = this.#local;
    if (local === undefined) return;
    if (errorAtEnd(local) !== undefined) this.#localFailed(local);
    else if (this.#ready) this.channel.end();
    else this.#localEnded = true;
  }

  /** @internal */
  handleClosed(): void {
    const local = this.#local;
    if (local === undefined) return;
    this.#localClosed = true;
    this.#observer.onLocalClosed?.();
    if (!(local.readableEnded && local.writableFinished)) this.#localFailed(local);
    else if (this.#farClosed) this.#finish({ how: 'end' });
  }

  #localFailed(local: TcpSocket): void {
    if (this.#over) return;
    reset(local);
    this.#finish({ how: 'reset', by: 'local' });
    this.channel.pause();
    onceSent(this.channel.transport, () => this.channel.abort());
  }

  #handleFarClosed(error: Error | undefined): void {
    this.#farClosed = true;
    if (error !== undefined) {
      this.#finish(isReset(error) ? { how: 'reset', by: 'far' } : { how: 'error', error });
      const local = this.#local;
      local?.pause();
      if (local !== undefined) onceSent(local, () => reset(local));
    } else if (this.#localClosed) this.#finish({ how: 'end' });
  }

  #finish(ending: Ending): void {
    if (this.#over) return;
    this.#over = true;
    this.#observer.onEnd(this, ending);
  }
}

/** Calls back when all that was written to `transport` is on its way, or cannot be. */
function onceSent(transport: TcpSocket, then: () => void): void {
  const deadline = Date.now() + RESET_PATIENCE;
  const look = (next: number): void => {
    const pending =
      !transport.destroyed && (transport.writableLength > 0 || bytesNotSent(descriptorOf(transport)) > 0);
    if (pending && Date.now() < deadline) setTimeout(look, next, Math.min(2 * next, LAST_LOOK));
    else then();
  };
  look(FIRST_LOOK);
}

const isReset = (error: Error): boolean =>
  ['ECONNRESET', 'EPIPE'].includes((error as NodeJS.ErrnoException).code ?? '');
