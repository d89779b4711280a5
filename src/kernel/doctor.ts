/** What the kernel part needs, and whether this machine has it. Changes nothing. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { TcpcryptError } from '../errors.js';
import { cgroupRoot, ownCgroup } from './cgroup.js';
import { type EnoOutcome, enoOutcome, kernelPartPresent, openEnoSocket } from './eno-socket.js';
import { libbpfMissing } from './libbpf.js';
import { bind, close } from './libc.js';
import { mountsOf } from './mounts.js';
import { attachedTo, defaultPins, readPins } from './pins.js';
import { sockaddr } from './sockaddr.js';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** Whether encryption fails without it; otherwise only a part does, which the remedy names. */
  readonly needed: boolean;
  readonly found: string;
  /** What to do when it is not ok. */
  readonly remedy: string;
}

/** The checks, in the order in which to repair things. */
export async function diagnose(pins: string = defaultPins()): Promise<Check[]> {
  if (process.platform !== 'linux') return [check('Linux', false, process.platform, 'TCP-ENO needs Linux')];
  return [
    check('Linux', true, release(), ''),
    kernelVersion(),
    kernelTypes(),
    cgroup(),
    bpffs(),
    libbpf(),
    capabilities(),
    tool('ip', 'iproute2'),
    tool('nft', 'nftables'),
    tool('iptables', 'iptables'),
    loaded(pins),
    reachable(),
    await handshake(),
  ];
}

const check = (name: string, ok: boolean, found: string, remedy: string, needed = true): Check => ({
  name,
  ok,
  needed,
  found,
  remedy,
});

/** 6.2: bpf_cast_to_kern_ctx and bpf_rdonly_cast. TCP header options in sock_ops came with 5.10, links with 5.7. */
function kernelVersion(): Check {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const ok = major > 6 || (major === 6 && minor >= 2);
  return check(
    'kernel 6.2 or newer',
    ok,
    release(),
    'boot a newer kernel; connections are plain TCP until then',
  );
}

function kernelTypes(): Check {
  const path = '/sys/kernel/btf/vmlinux';
  const ok = existsSync(path);
  return check(
    'kernel type information',
    ok,
    ok ? path : 'none',
    'use a kernel with CONFIG_DEBUG_INFO_BTF=y',
  );
}

function cgroup(): Check {
  const root = cgroupRoot();
  return check(
    'cgroup v2',
    root !== undefined,
    root ?? 'not mounted',
    'mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1',
  );
}

function bpffs(): Check {
  const mounted = mountsOf('bpf');
  const possible = existsSync('/sys/fs/bpf');
  return check(
    'BPF file system',
    mounted.length > 0 || possible,
    mounted[0] ?? (possible ? 'not mounted: "tcpcrypt up" mounts it' : 'not supported'),
    'use a kernel with CONFIG_BPF_SYSCALL=y',
  );
}

function libbpf(): Check {
  const missing = libbpfMissing();
  return check(
    'libbpf',
    missing === undefined,
    missing === undefined ? 'libbpf.so.1' : 'none',
    'apt-get install libbpf1 (others: libbpf); only "tcpcrypt up" and the daemon need it',
    !kernelPartPresent(),
  );
}

/** capabilities(7), the effective set. Only loading needs them. */
function capabilities(): Check {
  const NET_ADMIN = 12n;
  const SYS_ADMIN = 21n;
  const BPF = 39n;
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  const effective = BigInt(`0x${line?.[1] ?? '0'}`);
  const has = (bit: bigint): boolean => ((effective >> bit) & 1n) === 1n;
  const ok = has(NET_ADMIN) && (has(SYS_ADMIN) || has(BPF));
  const names = [has(NET_ADMIN) && 'CAP_NET_ADMIN', has(BPF) && 'CAP_BPF', has(SYS_ADMIN) && 'CAP_SYS_ADMIN'];
  return check(
    'capabilities to load BPF',
    ok,
    names.filter(Boolean).join(', ') || 'none',
    'run "tcpcrypt up" and the daemon as root; programs that only use encryption need nothing',
    false,
  );
}

function tool(name: string, debianPackage: string): Check {
  const path = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find(existsSync);
  return check(
    name,
    path !== undefined,
    path ?? 'none',
    `apt-get install ${debianPackage} (for the daemon)`,
    false,
  );
}

function loaded(pins: string): Check {
  const name = 'kernel part loaded';
  const remedy = 'run "tcpcrypt up" as root';
  try {
    const found = readPins(pins);
    if (found?.installation === undefined) return check(name, false, `nothing in ${pins}`, remedy, false);
    const { programs } = found;
    const detached = programs.filter((program) => attachedTo(pins, program) === undefined);
    if (programs.length === 0 || detached.length > 0)
      return check(name, false, `${pins}, but its cgroup is gone`, remedy, false);
    return check(name, true, `${pins}, ${programs.length} programs`, '');
  } catch (error) {
    if (error instanceof TcpcryptError || (error as NodeJS.ErrnoException).code === 'EACCES')
      return check(name, false, `not readable as this user: ${pins}`, 'run "tcpcrypt doctor" as root', false);
    throw error;
  }
}

function reachable(): Check {
  return check(
    'kernel part serves this process',
    kernelPartPresent(),
    `cgroup ${ownCgroup() ?? 'none'}`,
    'run "tcpcrypt up" as root, without --cgroup or with one that holds this process',
  );
}

/** Negotiates ENO over loopback: the proof that all of it works together. */
async function handshake(): Promise<Check> {
  const name = 'TCP-ENO handshake over loopback';
  const remedy = 'does a firewall strip TCP option 69? nft list ruleset | grep -i "tcp option"';
  if (!kernelPartPresent()) return check(name, false, 'not tried', 'run "tcpcrypt up" as root');
  try {
    const [client, server] = await loopback(Buffer.of(0x23));
    const ok =
      client.result === 'encrypt' &&
      server.result === 'encrypt' &&
      Buffer.compare(client.transcript, server.transcript) === 0 &&
      client.role !== server.role;
    const failed = [client, server].map((outcome) =>
      outcome.result === 'plain' ? outcome.reason : 'encrypt',
    );
    return check(name, ok, ok ? 'both ends agree' : failed.join(', '), remedy);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return check(name, false, error.message, 'is the loopback interface up? ip link set lo up');
  }
}

async function loopback(contents: Uint8Array): Promise<[EnoOutcome, EnoOutcome]> {
  const listener = openEnoSocket(4, { contents });
  let server: Server | undefined;
  try {
    bind(listener, sockaddr('127.0.0.1', 0));
    server = createServer();
  } catch (error) {
    close(listener);
    throw error;
  }
  const accepted = new Promise<EnoOutcome>((resolve, reject) => {
    server.once('error', reject);
    server.once('connection', (socket) => {
      resolve(enoOutcome(descriptor(socket)));
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen({ fd: listener }, resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const client = new Socket({ fd: openEnoSocket(4, { contents }) });
  try {
    const connected = await new Promise<EnoOutcome>((resolve, reject) => {
      client.once('error', reject);
      client.connect({ host: '127.0.0.1', port }, () => resolve(enoOutcome(descriptor(client))));
    });
    return [connected, await accepted];
  } finally {
    client.destroy();
    server.close();
  }
}

/** Node has no public way to the descriptor of a socket. */
function descriptor(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  if (handle === null) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED');
  return handle.fd;
}
