/**
 * Datagrams of a socket that Node has no word for (netlink), read by the loop itself and into one buffer.
 *
 * Node makes a net.Socket of any descriptor of a Unix stream socket, and reads it by read(2) when epoll says so; what that
 * number stands for by then, it does not ask. So it is given the number of such a socket, and dup3(2) puts ours behind it.
 * The other way, poll(2) on a thread of the pool, costs two switches of threads for each wake-up: waitReadable().
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { AF_UNIX, close, dup, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket } from './libc.js';

/** Options of net.Socket that its types miss. */
interface Documented {
  readonly onread: { readonly buffer: Uint8Array; readonly callback: (length: number) => boolean };
}

export class WatchedDatagrams {
  /** By which to send, until {@link close}. */
  readonly descriptor: number;
  /** Resolves when the descriptor is closed: with an error where reading failed. */
  readonly closed: Promise<Error | undefined>;
  readonly #socket: Socket;

  /**
   * @param descriptor non-blocking; it becomes ours, and has another number then
   * @param buffer     for one datagram; longer ones are cut off
   * @param onDatagram there are `length` bytes in the buffer, until it returns; not called before this turn of the loop is
   *                   over, and must not throw
   */
  constructor(descriptor: number, buffer: Uint8Array, onDatagram: (length: number) => void) {
    try {
      this.descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    } catch (error) {
      close(descriptor);
      throw error;
    }
    const callback = (length: number): boolean => {
      onDatagram(length);
      return true;
    };
    // Nobody reads before there is what to read: `manualStart` is older than the types as well.
    const options: SocketConstructorOpts & Documented & { manualStart: true } = {
      fd: this.descriptor,
      manualStart: true,
      onread: { buffer, callback },
    };
    this.#socket = new Socket(options);
    this.closed = new Promise((resolve) => {
      let failure: Error | undefined;
      this.#socket.on('error', (error) => {
        failure = error;
      });
      this.#socket.on('close', () => resolve(failure));
    });
    dup(descriptor, this.descriptor);
    close(descriptor);
    this.#socket.resume();
  }

  /** Closes the descriptor at once. */
  close(): void {
    this.#socket.destroy();
  }
}
