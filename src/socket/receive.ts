/**
 * Reading from an established net.Socket without its stream: into one buffer that all connections of this thread
 * share, as nothing is in it any more when the handler returns. So there are larger reads, no memory to allocate for
 * each, and none that an idle connection holds.
 */
import { Socket as TcpSocket } from 'node:net';

/**
 * Chosen by us: what one read takes at most. Larger than a second-level cache is slower again. The relay makes four frames of
 * it, with 20 bytes each besides the data, and these no more than four packets: offloading makes them of 44 segments of
 * Ethernet at least. What stands in a fifth would be a packet that costs as much as the others.
 */
const READ_UP_TO = 4 * (44 * 1460 - 20);

/** Of what came; the bytes change as soon as the handler returns. */
export type Receiving = (lent: Uint8Array) => void;

/** net.Socket has the option `onread` for sockets that it makes itself; these are the words for all others. */
interface Internals {
  readonly buffer: symbol;
  readonly callback: symbol;
}

interface Handle {
  useUserBuffer?(buffer: Uint8Array): void;
}

let internals: Internals | undefined | null = null;
let shared: Uint8Array | undefined;

/**
 * From now on `handler` is called with what the peer sends, as soon as the transport is resumed; 'end', pause() and
 * resume() work as ever.
 *
 * @returns false where this Node has no words for it: listen to 'data'
 */
export function receive(transport: TcpSocket, handler: Receiving): boolean {
  if (internals === null) internals = probe();
  const handle = (transport as unknown as { _handle?: Handle | null })._handle;
  if (internals === undefined || handle?.useUserBuffer === undefined) return false;
  const buffer = roomForReading();
  handle.useUserBuffer(buffer);
  const fields = transport as unknown as Record<symbol, unknown>;
  fields[internals.buffer] = buffer;
  fields[internals.callback] = (length: number): boolean => {
    handler(buffer.subarray(0, length));
    return true;
  };
  if (transport.readableLength > 0) handler(transport.read() as Uint8Array); // it was read before
  return true;
}

/** What all connections of this thread read into. */
export function roomForReading(): Uint8Array {
  shared ??= new Uint8Array(Buffer.allocUnsafeSlow(READ_UP_TO).buffer); // no Buffer: its views cost more
  return shared;
}

function probe(): Internals | undefined {
  const symbols = Object.getOwnPropertySymbols(new TcpSocket());
  const named = (name: string) => symbols.find(({ description }) => description === name);
  const [buffer, callback] = [named('kBuffer'), named('kBufferCb')];
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback };
}
