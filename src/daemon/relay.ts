/**
 * Passes one connection on: application ↔ daemon (plain, on this machine) and daemon ↔ far host (a channel).
 * Per direction bytes, end of file (FINp ↔ FIN) and reset (RST ↔ RST) arrive as what they were; each side is
 * read only as fast as the other one writes, so memory is bounded by two socket buffers.
 */
import type { Socket as TcpSocket } from 'node:net';
import { Channel } from '../socket/channel.js';
import type { Dialled } from '../socket/dial.js';
import type { Encryption } from '../socket/options.js';

/** How a relayed connection ended. */
export type Ending =
  | { readonly how: 'end' }
  /** The application, or the local server, reset it. */
  | { readonly how: 'reset'; readonly by: 'local' | 'far' }
  | { readonly how: 'error'; readonly error: Error };

export interface RelayObserver {
  /** The far side can carry data: encrypted, or plain. */
  onReady(relay: Relay): void;
  onEnd(relay: Relay, ending: Ending): void;
}

export class Relay {
  readonly channel: Channel;
  readonly #observer: RelayObserver;
  #local: TcpSocket | undefined;
  #ready = false;
  #over = false;
  /** What came in one piece with the end of the key exchange, before there was a local side: one read at most. */
  #early: Uint8Array[] = [];
  #earlyEnd = false;

  /** Starts with the far side alone; what it sends waits, mostly in its socket, until {@link join}. */
  constructor(far: Dialled, encryption: Encryption, observer: RelayObserver) {
    this.#observer = observer;
    far.transport.setNoDelay(true);
    this.channel = new Channel(far.transport, far.fd, far.outcome, encryption, {
      onReady: () => this.#becomeReady(),
      onData: (data) => {
        if (this.#local === undefined) this.#early.push(data);
        else if (!this.#local.write(data)) this.channel.pause();
      },
      onEnd: () => {
        if (this.#local === undefined) this.#earlyEnd = true;
        else this.#local.end();
      },
      onDrain: () => this.#local?.resume(),
      onClose: (error) => this.#farClosed(error),
    });
  }

  get ready(): boolean {
    return this.#ready;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Brings the local side in; from now on bytes flow. */
  join(local: TcpSocket): void {
    this.#local = local;
    local.setNoDelay(true);
    local.on('error', () => {});
    if (this.#over) {
      local.resetAndDestroy();
      return;
    }
    local.on('close', () => this.#localClosed());
    local.on('drain', () => this.channel.resume());
    if (this.#ready) this.#flow(local);
    else local.pause();
  }

  /** Resets both sides. */
  abort(error?: Error): void {
    this.#finish(error === undefined ? { how: 'reset', by: 'local' } : { how: 'error', error });
    this.channel.abort(error);
    this.#local?.resetAndDestroy();
  }

  #becomeReady(): void {
    this.#ready = true;
    // Whatever came along with the end of the key exchange must wait for somebody who takes it.
    if (this.#local === undefined) this.channel.pause();
    this.#observer.onReady(this);
    if (this.#local !== undefined) this.#flow(this.#local);
  }

  #flow(local: TcpSocket): void {
    local.on('data', (data) => {
      if (!this.channel.write(data)) local.pause();
    });
    local.on('end', () => this.channel.end());
    for (const data of this.#early.splice(0)) local.write(data);
    if (this.#earlyEnd) local.end();
    local.resume();
    this.channel.resume();
  }

  #localClosed(): void {
    // Both directions ended in order, or the far side already knows.
    if (this.#over || (this.#local?.readableEnded && this.#local.writableFinished)) return;
    this.#finish({ how: 'reset', by: 'local' });
    this.channel.abort();
  }

  #farClosed(error: Error | undefined): void {
    const reset = error !== undefined && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
    this.#finish(
      error === undefined ? { how: 'end' } : reset ? { how: 'reset', by: 'far' } : { how: 'error', error },
    );
    if (error !== undefined) this.#local?.resetAndDestroy();
  }

  #finish(ending: Ending): void {
    if (this.#over) return;
    this.#over = true;
    this.#observer.onEnd(this, ending);
  }
}
