/**
 * Writing to an established connection by send(2) itself: no request, no queue, no call-back later, and the bytes are
 * free again on return. What the operating system does not take goes the way of the stream, and so does everything
 * else until that has been written, so the order is that of the calls.
 */
import type { Socket as TcpSocket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import * as libc from '../kernel/libc.js';
import { descriptorOf } from './transport.js';

export type Written = (error?: Error | null) => void;

/** What becomes of the memory of a piece that nobody needs any more. */
export type Release = (piece: Uint8Array) => void;

const direct = process.platform === 'linux';
/** Full for now; libuv says so too. */
const BUSY = new Set([libc.EAGAIN, libc.EINTR, libc.ENOBUFS].map((errno) => -errno));
/** Chosen by us: smaller pieces are not worth a call-back for their memory. */
const RELEASE_FROM = 16_384;

/**
 * Sends `pieces`, which travel together.
 * @param release is told of each piece that the operating system has taken over
 * @param written called when it has taken over everything, perhaps before the return, or never will; of two calls not
 *   always in their order
 * @returns false when the caller should wait for 'drain' of the transport
 */
export function send(
  transport: TcpSocket,
  pieces: readonly Uint8Array[],
  release?: Release,
  written?: Written,
): boolean {
  return sent(transport, sendNow(transport, pieces, release, FLAGS), release, written);
}

/** As {@link send}, right before `transport.end()`: the last piece waits for FIN, and both travel in one segment. */
export function sendLast(
  transport: TcpSocket,
  pieces: readonly Uint8Array[],
  release?: Release,
  written?: Written,
): boolean {
  return sent(transport, sendNow(transport, pieces, release, FLAGS_MORE), release, written);
}

function sent(
  transport: TcpSocket,
  rest: readonly Uint8Array[] | Error,
  release: Release | undefined,
  written: Written | undefined,
): boolean {
  if (rest instanceof Error) {
    written?.(rest); // at once, as net.Socket: its stream knows before the write returns
    return true;
  }
  if (rest.length > 0) return sendByStream(transport, rest, release, written);
  written?.();
  return !transport.writableNeedDrain;
}

/** As {@link send}, but `lent` is the caller's again on return: what must wait is copied. */
export function sendLent(transport: TcpSocket, lent: Uint8Array): boolean {
  const rest = sendNow(transport, [lent], undefined, FLAGS);
  if (rest instanceof Error) return true;
  const [piece] = rest;
  return piece === undefined ? !transport.writableNeedDrain : transport.write(Buffer.from(piece));
}

/** The readable twin of {@link send}. */
export function sendByStream(
  transport: TcpSocket,
  pieces: readonly Uint8Array[],
  release?: Release,
  written?: Written,
): boolean {
  let left = pieces.length;
  let flowing = true;
  if (left > 1) transport.cork();
  for (const piece of pieces) {
    left -= 1;
    flowing = transport.write(piece, whenWritten(piece, release, left === 0 ? written : undefined));
  }
  if (pieces.length > 1) transport.uncork();
  return flowing;
}

/** @returns what has not been taken; or why the connection is gone */
function sendNow(
  transport: TcpSocket,
  pieces: readonly Uint8Array[],
  release: Release | undefined,
  flagsOfLast: number,
): readonly Uint8Array[] | Error {
  // What the stream has, comes first.
  if (!direct || transport.writableLength > 0 || !transport.writable) return pieces;
  const fd = descriptorOf(transport); // never kept: when this one is closed, the number is another's
  if (fd < 0) return pieces;
  // Nothing that is empty comes last: it would leave what the kernel was told to keep for it there, for 200 ms.
  let count = pieces.length;
  while (count > 1 && pieces[count - 1]?.length === 0) count -= 1;
  let left = count;
  for (const piece of pieces) {
    if (left === 0) break;
    left -= 1;
    const taken = libc.trySendSome(fd, piece, left > 0 ? FLAGS_MORE : flagsOfLast);
    if (taken < piece.length) {
      if (taken < 0 && !BUSY.has(taken)) return failed(transport, taken);
      return [taken > 0 ? piece.subarray(taken) : piece, ...pieces.slice(count - left)];
    }
    release?.(piece);
  }
  if (transport.timeout) transport.setTimeout(transport.timeout); // idleness begins anew
  return [];
}

const FLAGS = libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL;
const FLAGS_MORE = FLAGS | libc.MSG_MORE;

function whenWritten(
  piece: Uint8Array,
  release: Release | undefined,
  written: Written | undefined,
): Written | undefined {
  if (release === undefined || piece.length < RELEASE_FROM) return written;
  return (error) => {
    release(piece);
    written?.(error);
  };
}

/** As node:net: the connection is gone, and the error says why. */
function failed(transport: TcpSocket, result: number): Error {
  const code = getSystemErrorName(result);
  const error = Object.assign(new Error(`write ${code}`), { code, errno: result, syscall: 'write' });
  transport.destroy(error);
  return error;
}
