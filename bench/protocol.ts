/**
 * What the client program asks of the server program, at the beginning of each connection:
 *
 *     Echo                         everything comes back, this byte too
 *     Send | length in 8 bytes     so many bytes come
 *     Receive | length in 8 bytes  so many bytes follow; a byte comes back when they are there
 */
import type { Writable } from 'node:stream';

export enum Operation {
  Echo = 1,
  Send = 2,
  Receive = 3,
}

export const HEADER_LENGTH = 9;
/** The size of writes in bulk. */
export const CHUNK = 65_536;

export function header(operation: Operation, length: number): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH);
  bytes.writeUInt8(operation);
  bytes.writeDoubleBE(length, 1);
  return bytes;
}

export const readHeader = (bytes: Buffer): { operation: Operation; length: number } => ({
  operation: bytes.readUInt8(0),
  length: bytes.readDoubleBE(1),
});

const chunk = Buffer.alloc(CHUNK, 7);

/** Writes so many bytes, as fast as the stream takes them. */
export function send(stream: Writable, length: number): void {
  let left = length;
  const more = (): void => {
    while (left > 0) {
      const size = Math.min(left, CHUNK);
      left -= size;
      if (!stream.write(size === CHUNK ? chunk : chunk.subarray(0, size))) return;
    }
  };
  stream.on('drain', more);
  more();
}
