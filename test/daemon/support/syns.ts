/**
 * What the rules in the kernel make of a SYN: programs that send one each, in a cgroup and in a user's name, or from another
 * host; and a table of nftables that notes every SYN that comes past with the mark that the policy has given it.
 */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { MARK } from '#src/kernel/packet-marks.js';
import type { PolicyAction } from '#src/kernel/policy-rules.js';
import type { Host } from '#src/lab/host.js';
import type { NetworkNamespace } from '#src/lab/netns.js';
import { python } from './pair.js';

export interface Syn {
  readonly from?: string;
  readonly fromPort: number;
  readonly to: string;
  readonly toPort: number;
  readonly uid?: number;
}

/** One JSON array of SYNs on a line, one of what the sockets say of them. */
const AGENT = `
import errno, json, os, select, socket, struct, sys

def attempt(fromPort, to, toPort, uid=0):
    os.setegid(uid); os.seteuid(uid)
    try:
        s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET)
    finally:
        os.seteuid(0); os.setegid(0)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('', fromPort))
    error = s.connect_ex((to, toPort))
    if error == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(s, select.POLLOUT)
        error = (s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(5) else 0) or errno.EINPROGRESS
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
    return errno.errorcode[error]

def forge(**syn):
    """A raw SYN with a source address of its own."""
    six = ':' in syn['to']
    family = socket.AF_INET6 if six else socket.AF_INET
    ends = [socket.inet_pton(family, syn[end]) for end in ('from', 'to')]
    tcp = struct.pack('!HHIIBBHHH', syn['fromPort'], syn['toPort'], 1, 0, 5 << 4, 2, 1000, 0, 0)
    pseudo = ends[0] + ends[1] + struct.pack('!II' if six else '!HH', *((len(tcp), 6) if six else (6, len(tcp))))
    total = sum(struct.unpack('!%dH' % (len(pseudo + tcp) // 2), pseudo + tcp))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    tcp = tcp[:16] + struct.pack('!H', ~total & 0xffff) + tcp[18:]
    if six: ip = struct.pack('!IHBB', 6 << 28, len(tcp), 6, 64)
    else: ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(ip + ends[0] + ends[1] + tcp, (syn['to'], 0))
    return 'sent'

if sys.argv[1] == 'listen':
    listeners = [socket.create_server(('::', int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[2:]]
print('ready', flush=True)
for line in sys.stdin:
    print(json.dumps([(forge if sys.argv[1] == 'forge' else attempt)(**syn) for syn in json.loads(line)]), flush=True)
`;

/** Sends SYNs, one after the other. */
export class SynSender {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** `listen`: by connect(), while it listens on `ports`; `forge`: raw ones, whose source may be anybody. */
  static async start(
    where: NetworkNamespace,
    how: 'listen' | 'forge',
    { cgroup = where.cgroup, ports = [] }: { cgroup?: string; ports?: readonly number[] } = {},
  ): Promise<SynSender> {
    const enter = 'echo 0 > "$0/cgroup.procs" && exec "$@"';
    const program = python(AGENT, how, ...ports.map(String)).flat();
    const child = where.spawn('sh', ['-c', enter, cgroup, ...program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const sender = new SynSender(child);
    await sender.#lines.next();
    return sender;
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
    if (child.stdout === null) throw new Error('no pipe');
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @returns what became of each: EINPROGRESS, ECONNREFUSED, …; 'sent' */
  async send(syns: readonly Syn[]): Promise<string[]> {
    this.#process.stdin?.write(`${JSON.stringify(syns)}\n`);
    const { value } = await this.#lines.next();
    return JSON.parse(String(value)) as string[];
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdin?.end();
    await gone;
  }
}

const TABLE = 'syn_watch';
const SYN = 'tcp flags & (fin | syn | rst | ack) == syn';
/** Where SYNs are noted. `coming` is before the policy is asked, `in` after that; both for what came from elsewhere. */
const PLACES = [
  // Between the policy (-301) and what becomes of its marks (-299).
  { name: 'out', hook: 'output', priority: -300, which: '' },
  { name: 'coming', hook: 'prerouting', priority: -101, which: 'iifname != "lo" ' },
  { name: 'in', hook: 'prerouting', priority: -98, which: 'iifname != "lo" ' },
] as const;
type Place = (typeof PLACES)[number]['name'];

const BITS = MARK.ENCRYPT | MARK.PRIVATE | MARK.REFUSE;
const ACTIONS = new Map<number, PolicyAction>([
  [0, 'clear'],
  [MARK.ENCRYPT >>> 0, 'private-or-clear'],
  [(MARK.ENCRYPT | MARK.PRIVATE) >>> 0, 'private'],
  [MARK.REFUSE >>> 0, 'block'],
]);

/** What the kernel has seen of SYNs, by their ports. */
export class SynWatch {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
    const sets = PLACES.map(
      ({ name, hook, priority, which }) => `
  set ${name} { type inet_service . inet_service . mark; flags dynamic; size 65536; }
  chain see_${name} {
    type filter hook ${hook} priority ${priority}; policy accept;
    ${which}${SYN} add @${name} { tcp sport . tcp dport . meta mark }
  }`,
    );
    host.enter('nft', ['-f', '-'], `table inet ${TABLE} {${sets.join('')}\n}\n`);
  }

  /** The marks' meanings, by "source port, destination port"; undefined where no SYN was seen. What was noted is forgotten. */
  take(place: Place): (syn: Syn) => PolicyAction | undefined {
    const { nftables } = JSON.parse(this.#host.enter('nft', ['-j', 'list', 'set', 'inet', TABLE, place])) as {
      nftables: { set?: { elem?: { elem?: { val: { concat: number[] } }; concat?: number[] }[] } }[];
    };
    this.#host.enter('nft', ['flush', 'set', 'inet', TABLE, place]);
    const seen = new Map<string, PolicyAction>();
    for (const element of nftables.flatMap(({ set }) => set?.elem ?? [])) {
      const [from, to, mark = 0] = element.concat ?? element.elem?.val.concat ?? [];
      const action = ACTIONS.get((mark & BITS) >>> 0);
      if (action === undefined) throw new Error(`a mark that means nothing: ${mark.toString(16)}`);
      if (seen.has(`${from}, ${to}`)) throw new Error(`two SYNs from ${from} to ${to}`);
      seen.set(`${from}, ${to}`, action);
    }
    return ({ fromPort, toPort }) => seen.get(`${fromPort}, ${toPort}`);
  }
}
