/**
 * The few system calls that Node has no word for, through koffi. Every function throws a
 * {@link TcpcryptError} ERR_TCPCRYPT_SYSTEM (or ERR_TCPCRYPT_PERMISSION) that names the call and the errno,
 * except where its name begins with "try": those return -errno.
 *
 * Numbers are those of Linux on all architectures that Node supports there (include/uapi).
 */
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { TcpcryptError } from '../errors.js';

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
/** linux/netlink.h: protocol numbers under AF_NETLINK. */
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_IP = 0;
export const SOL_SOCKET = 1;
export const IPPROTO_TCP = 6;
export const SOL_IPV6 = 41;
export const SOL_NETLINK = 270;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_OOBINLINE = 10;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_RCVBUFFORCE = 33;
export const SO_MARK = 36;
export const SO_PROTOCOL = 38;
export const SO_MEMINFO = 55;
export const SO_COOKIE = 57;
export const SO_NETNS_COOKIE = 71;
export const NETLINK_ADD_MEMBERSHIP = 1;
export const NETLINK_NO_ENOBUFS = 5;
export const IP_TOS = 1;
export const IP_TTL = 2;
export const IP_TRANSPARENT = 19;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_TCLASS = 67;
export const IPV6_TRANSPARENT = 75;
export const IPV6_V6ONLY = 26;
export const TCP_NODELAY = 1;
export const TCP_FASTOPEN = 23;

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EAGAIN = 11;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOPROTOOPT = 92;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENOBUFS = 105;
export const EISCONN = 106;
export const ENOTCONN = 107;
export const ECONNREFUSED = 111;
export const EALREADY = 114;
export const EINPROGRESS = 115;

/** The C library is already part of the running process, glibc or musl. */
const libc = koffi.load(null);

const c = {
  socket: libc.func('int socket(int, int, int)'),
  close: libc.func('int close(int)'),
  dup3: libc.func('int dup3(int, int, int)'),
  bind: libc.func('int bind(int, const void *, uint32_t)'),
  getsockname: libc.func('int getsockname(int, uintptr_t, uintptr_t)'),
  connect: libc.func('int connect(int, const void *, uint32_t)'),
  listen: libc.func('int listen(int, int)'),
  setsockopt: libc.func('int setsockopt(int, int, int, uintptr_t, uint32_t)'),
  getsockopt: libc.func('int getsockopt(int, int, int, uintptr_t, uintptr_t)'),
  recv: libc.func('int64_t recv(int, void *, size_t, int)'),
  send: libc.func('int64_t send(int, const void *, size_t, int)'),
  shutdown: libc.func('int shutdown(int, int)'),
  poll: libc.func('int poll(void *, uint64_t, int)'),
  eventfd: libc.func('int eventfd(unsigned int, int)'),
  execvp: libc.func('int execvp(const char *, const char **)'),
  fcntl: libc.func('int fcntl(int, int, int)'),
  signal: libc.func('void *signal(int, void *)'),
  flock: libc.func('int flock(int, int)'),
  ioctl: libc.func('int ioctl(int, unsigned long, void *)'),
  write: libc.func('int64_t write(int, const void *, size_t)'),
  getrlimit: libc.func('int getrlimit(int, void *)'),
  prctl: libc.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)'),
  capset: libc.func('int capset(void *, const void *)'),
  seccomp: libc.func('long syscall(long, unsigned int, unsigned int, const void *)'),
  pidfdOpen: libc.func('long syscall(long, int, unsigned int)'),
  pidfdGetfd: libc.func('long syscall(long, int, int, unsigned int)'),
  getpeername: libc.func('int getpeername(int, uintptr_t, uintptr_t)'),
  mount: libc.func('int mount(const char *, const char *, const char *, unsigned long, const void *)'),
  umount: libc.func('int umount2(const char *, int)'),
};

/** The error for a failed system call: `errno` as a positive number. */
export function systemError(call: string, errno: number): TcpcryptError {
  const code = errno === EPERM || errno === EACCES ? 'ERR_TCPCRYPT_PERMISSION' : 'ERR_TCPCRYPT_SYSTEM';
  return new TcpcryptError(code, { errno, detail: `${call}: ${getSystemErrorName(-errno)}` });
}

function check(call: string, result: number): number {
  if (result < 0) throw systemError(call, koffi.errno());
  return result;
}

/** `socket(2)`; returns the descriptor. */
export const socket = (family: number, type: number, protocol: number): number =>
  check('socket', c.socket(family, type, protocol));

/** `close(2)`; never throws, as there is nothing left to do about it. */
export const close = (fd: number): void => {
  c.close(fd);
};

/** `dup3(2)`, close-on-exec: from now on `to` stands for what `from` stands for. */
export const dup = (from: number, to: number): void => {
  check('dup3', c.dup3(from, to, SOCK_CLOEXEC));
};

/** `bind(2)`; `address` is a `struct sockaddr`. */
export const bind = (fd: number, address: Uint8Array): void => {
  check('bind', c.bind(fd, address, address.length));
};

/** `bind(2)`; returns 0 or -errno. */
export const tryBind = (fd: number, address: Uint8Array): number =>
  c.bind(fd, address, address.length) < 0 ? -koffi.errno() : 0;

/** `getsockname(2)`: a `struct sockaddr`. */
export const getsockname = (fd: number): Buffer => {
  const name = tryGetsockname(fd);
  if (typeof name === 'number') throw systemError('getsockname', -name);
  return name;
};

/** `connect(2)`; returns 0 or -errno (-EINPROGRESS on a non-blocking stream socket). */
export const tryConnect = (fd: number, address: Uint8Array): number =>
  c.connect(fd, address, address.length) < 0 ? -koffi.errno() : 0;

/** `listen(2)`. */
export const listen = (fd: number, backlog: number): void => {
  check('listen', c.listen(fd, backlog));
};

/** `setsockopt(2)` with raw bytes, or with an `int` where `value` is a number. */
export const setsockopt = (fd: number, level: number, name: number, value: Uint8Array | number): void => {
  const result = trySetsockopt(fd, level, name, value);
  if (result < 0) throw systemError(`setsockopt(${level}, ${name})`, -result);
};

/** As {@link setsockopt}; returns 0 or -errno. */
export const trySetsockopt = (
  fd: number,
  level: number,
  name: number,
  value: Uint8Array | number,
): number => {
  if (typeof value === 'number') optionInt[0] = value;
  else option.set(value); // a RangeError where there is no room
  const length = typeof value === 'number' ? 4 : value.length;
  return c.setsockopt(fd, level, name, optionAt, length) < 0 ? -koffi.errno() : 0;
};

/**
 * The value of an option on its way to the kernel, or back, then a socklen_t. An address is passed on at a fraction of
 * what an array costs.
 */
const OPTION_ROOM = 1024;
const option = new Uint8Array(OPTION_ROOM + 4);
const optionInt = new Int32Array(option.buffer, 0, 1);
const optionLength = new Uint32Array(option.buffer, OPTION_ROOM, 1);
const optionAt = Number(koffi.address(option));
const optionLengthAt = optionAt + OPTION_ROOM;

/** `getsockopt(2)`: at most `capacity` bytes of the value, 1024 or fewer; or -errno. */
export const tryGetsockopt = (fd: number, level: number, name: number, capacity: number): Buffer | number => {
  if (capacity > OPTION_ROOM) throw new RangeError('no room for so much');
  optionLength[0] = capacity;
  if (c.getsockopt(fd, level, name, optionAt, optionLengthAt) < 0) return -koffi.errno();
  const value = Buffer.allocUnsafe(Math.min(optionLength[0], capacity));
  value.set(option.subarray(0, value.length));
  return value;
};

/** `getsockopt(2)`: at most `capacity` bytes of the value. */
export const getsockopt = (fd: number, level: number, name: number, capacity: number): Buffer => {
  const value = tryGetsockopt(fd, level, name, capacity);
  if (typeof value === 'number') throw systemError(`getsockopt(${level}, ${name})`, -value);
  return value;
};

/** `recv(2)` into `buffer`; returns the number of bytes, or -errno (EAGAIN with MSG_DONTWAIT when there is nothing). */
export const tryRecv = (fd: number, buffer: Uint8Array, flags: number): number => {
  const n = Number(c.recv(fd, buffer, buffer.length, flags));
  return n < 0 ? -koffi.errno() : n;
};
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;

/** `send(2)` of one datagram; returns 0 or -errno. */
export const trySend = (fd: number, datagram: Uint8Array): number =>
  Number(c.send(fd, datagram, datagram.length, 0)) < 0 ? -koffi.errno() : 0;

/** `send(2)` on a stream; returns how many bytes were taken, or -errno. */
export const trySendSome = (fd: number, bytes: Uint8Array, flags: number): number => {
  const n = Number(c.send(fd, bytes, bytes.length, flags));
  return n < 0 ? -koffi.errno() : n;
};

/** `shutdown(2)` of the sending direction: FIN follows what was sent. Returns 0, or -errno. */
export const tryEndSending = (fd: number): number => (c.shutdown(fd, 1) < 0 ? -koffi.errno() : 0);

/** `ioctl(2)` SIOCOUTQNSD: how many bytes of a TCP socket have not left for the peer yet; 0 also when it is closed. */
export const bytesNotSent = (fd: number): number => {
  const SIOCOUTQNSD = 0x894b;
  const value = int32(0);
  return c.ioctl(fd, SIOCOUTQNSD, value) < 0 ? 0 : value.readInt32LE(0);
};

/** `eventfd(2)`: a descriptor that {@link wake} makes readable, to end a {@link waitReadable}. */
export const eventfd = (): number => check('eventfd', c.eventfd(0, SOCK_CLOEXEC | SOCK_NONBLOCK));

export const wake = (fd: number): void => {
  const one = Buffer.alloc(8);
  one.writeBigUInt64LE(1n);
  c.write(fd, one, 8);
};

/**
 * Waits, on a thread of the pool and without a timeout, until one of `fds` is readable.
 * Node has no word for foreign descriptors (netlink). For what comes seldom; otherwise see watched-datagrams.ts. One thread is taken while it waits,
 * and process.exit() waits for that thread: have an eventfd among `fds`, and {@link wake} it on 'exit'.
 */
export function waitReadable(fds: readonly number[]): Promise<void> {
  const POLLIN = 1;
  const pollfds = Buffer.alloc(fds.length * 8);
  fds.forEach((fd, i) => {
    pollfds.writeInt32LE(fd, i * 8);
    pollfds.writeInt16LE(POLLIN, i * 8 + 4);
  });
  return new Promise((resolve, reject) => {
    c.poll.async(pollfds, fds.length, -1, (error: Error | null) => (error ? reject(error) : resolve()));
  });
}

/** `flock(2)`, exclusive, without waiting; returns 0 or -errno: EAGAIN when somebody else has the lock. */
export const tryLock = (fd: number): number => {
  const LOCK_EX_NB = 2 | 4;
  return c.flock(fd, LOCK_EX_NB) < 0 ? -koffi.errno() : 0;
};

/** `getrlimit(2)`, RLIMIT_NOFILE: the soft limit of open files; needs no descriptor itself. */
export const openFilesLimit = (): number => {
  const RLIMIT_NOFILE = 7;
  const limits = Buffer.alloc(16);
  check('getrlimit', c.getrlimit(RLIMIT_NOFILE, limits));
  return Number(limits.readBigUInt64LE());
};

/** `prctl(2)`; returns what the call returns. */
export const prctl = (option: number, ...values: readonly number[]): number => {
  const [a = 0, b = 0, c2 = 0, d = 0] = values;
  return check(`prctl(${option})`, c.prctl(option, a, b, c2, d));
};

/** `capset(2)` of this thread: these capabilities, by number, are permitted, effective and inheritable. */
export const capset = (capabilities: readonly number[]): void => {
  const LINUX_CAPABILITY_VERSION_3 = 0x20080522;
  const header = Buffer.alloc(8);
  header.writeUInt32LE(LINUX_CAPABILITY_VERSION_3);
  const sets = Buffer.alloc(24);
  for (const capability of capabilities)
    for (let set = 0; set < 3; set++) {
      const at = (capability >= 32 ? 12 : 0) + set * 4;
      sets.writeUInt32LE((sets.readUInt32LE(at) | (1 << (capability % 32))) >>> 0, at);
    }
  check('capset', c.capset(header, sets));
};

/** `seccomp(2)`, which the C library has no function for, with one `struct sock_fprog`; returns 0 or -errno. */
export const trySeccomp = (number: number, operation: number, flags: number, program: Uint8Array): number => {
  const instructions = koffi.alloc('uint8_t', program.length);
  new Uint8Array(koffi.view(instructions, program.length)).set(program);
  const fprog = Buffer.alloc(16);
  fprog.writeUInt16LE(program.length / 8);
  fprog.writeBigUInt64LE(koffi.address(instructions), 8);
  const result = Number(c.seccomp(number, operation, flags, fprog)) < 0 ? -koffi.errno() : 0;
  koffi.free(instructions);
  return result;
};

/** One number on all architectures that Node runs on. */
const SYS_PIDFD_OPEN = 434;
const SYS_PIDFD_GETFD = 438;

/** `pidfd_open(2)`: a descriptor, or -errno. */
export const tryPidfdOpen = (pid: number): number => {
  const fd = Number(c.pidfdOpen(SYS_PIDFD_OPEN, pid, 0));
  return fd < 0 ? -koffi.errno() : fd;
};

/** `pidfd_getfd(2)`: a descriptor for the same file, or -errno. */
export const tryPidfdGetfd = (pidfd: number, fd: number): number => {
  const ours = Number(c.pidfdGetfd(SYS_PIDFD_GETFD, pidfd, fd, 0));
  return ours < 0 ? -koffi.errno() : ours;
};

/** `getsockname(2)`: a `struct sockaddr`, or -errno. */
export const tryGetsockname = (fd: number): Buffer | number => tryName(c.getsockname, fd);

/** `getpeername(2)`: a `struct sockaddr`, or -errno. */
export const tryGetpeername = (fd: number): Buffer | number => tryName(c.getpeername, fd);

function tryName(call: typeof c.getsockname, fd: number): Buffer | number {
  optionLength[0] = OPTION_ROOM;
  if (call(fd, optionAt, optionLengthAt) < 0) return -koffi.errno();
  const name = Buffer.allocUnsafe(Math.min(optionLength[0], OPTION_ROOM));
  name.set(option.subarray(0, name.length));
  return name;
}

const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const SIGPIPE = 13;

/**
 * `execvp(3)`: returns only on failure, the errno. Undoes what Node has done to the process: descriptors 0 to 2 are
 * inherited and block, SIGPIPE has its default effect.
 */
export function tryExec(file: string, argv: readonly string[]): number {
  for (const fd of [0, 1, 2]) {
    const flags = Number(c.fcntl(fd, F_GETFL, 0));
    if (flags < 0) continue;
    c.fcntl(fd, F_SETFD, 0);
    c.fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }
  c.signal(SIGPIPE, null);
  c.execvp(file, [...argv, null]);
  return koffi.errno();
}

/** `mount(2)` without flags. */
export const mount = (source: string, target: string, type: string): void => {
  check(`mount ${target}`, c.mount(source, target, type, 0, null));
};

/** `umount2(2)` without flags. */
export const unmount = (target: string): void => {
  check(`umount ${target}`, c.umount(target, 0));
};

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
