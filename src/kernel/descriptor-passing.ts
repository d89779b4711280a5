/**
 * Open descriptors from one process to another: SCM_RIGHTS, unix(7), with a few bytes of text beside them.
 *
 *     [a, b] = descriptorChannel()
 *     sendDescriptors(a, [3, 4], 'ready')       in one process
 *     takeDescriptors(b)                        in the other one
 */
import koffi from 'koffi';
import {
  AF_UNIX,
  close,
  EAGAIN,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOL_SOCKET,
  systemError,
} from './libc.js';

const SOCK_SEQPACKET = 5;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Descriptors of one message, and bytes of its text. */
const MOST = 16;
const TEXT = 1024;

const libc = koffi.load(null);
const socketpair = libc.func('int socketpair(int, int, int, void *)');
const sendmsg = libc.func('int64_t sendmsg(int, const void *, int)');
const recvmsg = libc.func('int64_t recvmsg(int, void *, int)');

export interface Passed {
  /** The caller's own from now on. */
  readonly descriptors: readonly number[];
  readonly text: string;
}

/** Two ends of a connection that keeps messages apart. The caller owns both. */
export function descriptorChannel(): readonly [number, number] {
  const ends = Buffer.alloc(8);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
    throw systemError('socketpair', koffi.errno());
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** The descriptors stay the caller's as well. Waits where the channel is full. */
export function sendDescriptors(channel: number, descriptors: readonly number[], text: string): void {
  if (descriptors.length > MOST) throw new RangeError('too many descriptors');
  const length = Buffer.from(text || ' ').copy(message.text);
  const controlLength = CONTROL_HEADER + 4 * descriptors.length;
  prepare(length, descriptors.length === 0 ? 0 : controlLength);
  message.control.writeBigUInt64LE(BigInt(controlLength), 0);
  message.control.writeInt32LE(SOL_SOCKET, 8);
  message.control.writeInt32LE(SCM_RIGHTS, 12);
  descriptors.forEach((fd, i) => {
    message.control.writeInt32LE(fd, CONTROL_HEADER + 4 * i);
  });
  if (Number(sendmsg(channel, message.header, MSG_NOSIGNAL)) < 0) throw systemError('sendmsg', koffi.errno());
}

/** What has been sent; undefined when there is nothing, now or ever. Does not wait. */
export function takeDescriptors(channel: number): Passed | undefined {
  prepare(TEXT, message.control.length);
  const length = Number(recvmsg(channel, message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (length < 0 && koffi.errno() !== EAGAIN) throw systemError('recvmsg', koffi.errno());
  if (length <= 0) return undefined;
  const descriptors: number[] = [];
  if (message.header.readBigUInt64LE(CONTROL_LENGTH) >= CONTROL_HEADER) {
    const end = Math.min(Number(message.control.readBigUInt64LE(0)), message.control.length);
    for (let at = CONTROL_HEADER; at + 4 <= end; at += 4) descriptors.push(message.control.readInt32LE(at));
  }
  return { descriptors, text: message.text.toString('utf8', 0, length) };
}

/** Nobody wants what is still there. */
export function emptyChannel(channel: number): void {
  for (let left = takeDescriptors(channel); left !== undefined; left = takeDescriptors(channel))
    for (const fd of left.descriptors) close(fd);
}

/** `struct cmsghdr` of 64 bits: length, level, type; the descriptors follow, four bytes each. */
const CONTROL_HEADER = 16;
/** Where `msg_controllen` is in `struct msghdr` of 64 bits. */
const CONTROL_LENGTH = 40;

/**
 * `struct msghdr`, and what it has the addresses of. The garbage collector knows nothing of addresses, so all of it is
 * the module's, for the call in progress.
 */
const message = {
  header: Buffer.alloc(56),
  /** One `struct iovec`. */
  vector: Buffer.alloc(16),
  text: Buffer.alloc(TEXT),
  control: Buffer.alloc(CONTROL_HEADER + 4 * MOST),
};
message.vector.writeBigUInt64LE(BigInt(koffi.address(message.text)), 0);
message.header.writeBigUInt64LE(BigInt(koffi.address(message.vector)), 16);
message.header.writeBigUInt64LE(1n, 24);
message.header.writeBigUInt64LE(BigInt(koffi.address(message.control)), 32);

/** Bytes to send, or room for them. */
function prepare(textLength: number, controlLength: number): void {
  message.vector.writeBigUInt64LE(BigInt(textLength), 8);
  message.header.writeBigUInt64LE(BigInt(controlLength), CONTROL_LENGTH);
}
