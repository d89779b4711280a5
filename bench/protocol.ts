/**
 * What the client program asks of the server program, at the beginning of each connection:
 *
 *     Echo                         everything comes back, this byte too
 *     Send | length in 8 bytes     so many bytes come
 *     Receive | length in 8 bytes  so many bytes follow; a byte comes back when they are there
 */
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
