/**
 * Hosts as network namespaces on this machine, for the demo and the end-to-end tests. Needs root.
 *
 *     alice                        router                        bob
 *     eth0 ───────────────── alice        bob ────────────────── eth0
 *     10.69.1.1/24      10.69.1.254        10.69.2.254   10.69.2.1/24
 *     fd69:1::1/64       fd69:1::fe        fd69:2::fe    fd69:2::1/64
 *
 * Host number n (1, 2, … in order of creation) has 10.69.n.1 and fd69:n::1 (n in hexadecimal), in every lab:
 * labs do not see each other, nor the machine's own network. Names of namespaces and cgroups begin with
 * `tcpcrypt-lab-<pid>-`, so that labs of several processes run side by side and remains can be told from
 * what is in use.
 *
 *     const lab = await Lab.create();
 *     const alice = lab.host('alice'), bob = lab.host('bob');
 *     bob.spawn('redis-server', ['--bind', bob.address4]);
 *     await bob.waitForListener(6379);
 *     const capture = await Capture.start(lab, alice);
 *     await alice.run('redis-cli', ['-h', bob.address4, 'ping']);
 *     const segments = await capture.stop();
 *     await lab.destroy();
 *
 * Nothing stays behind, also when this process is killed: a guard kills what runs in the cgroups and removes
 * namespaces, cgroups and temporary files.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TcpcryptError } from '../errors.js';
import { Guard } from '../kernel/guard.js';
import { cgroupMount, removeCgroupScript } from './cgroup.js';
import { Host } from './host.js';
import { Router } from './router.js';
import { shellWord, TOOL_PATH, tool } from './tools.js';

export interface LabOptions {
  /** Appears in the names of namespaces and cgroups. */
  readonly name?: string;
}

const MAX_HOSTS = 254;
/** The name of a host is also that of the router's interface to it, which has at most 15 characters. */
const HOST_NAME = /^[a-z][a-z0-9-]{0,14}$/;
const LAB_NAME = /^[a-z0-9-]{1,30}$/;

let labs = 0;

export class Lab {
  readonly router: Router;
  /** For sockets, configuration and captures of the lab's programs; removed with it. Everybody may enter. */
  readonly directory: string;

  readonly #prefix: string;
  readonly #cgroup: string;
  readonly #guard: Guard;
  readonly #hosts = new Map<string, Host>();

  /**
   * A router without hosts.
   * @throws ERR_TCPCRYPT_PERMISSION without root, ERR_TCPCRYPT_KERNEL_FEATURE without cgroup v2 or `ip`.
   */
  static async create(options: LabOptions = {}): Promise<Lab> {
    const { name } = options;
    if (name !== undefined && !LAB_NAME.test(name))
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `lab name: ${name}` });
    if (process.getuid?.() !== 0)
      throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION', { detail: 'making network namespaces' });
    const lab = new Lab(`tcpcrypt-lab-${process.pid}-${++labs}${name === undefined ? '' : `-${name}`}`);
    try {
      lab.#addRouter();
    } catch (error) {
      await lab.destroy();
      throw error;
    }
    return lab;
  }

  private constructor(prefix: string) {
    this.#prefix = prefix;
    this.#cgroup = join(cgroupMount(), prefix);
    this.directory = mkdtempSync(join(tmpdir(), `${prefix}-`));
    this.#guard = new Guard(this.#removeScript());
    chmodSync(this.directory, 0o755);
    this.router = new Router('router', `${prefix}-router`, join(this.#cgroup, 'router'));
  }

  /** A new host, ready to talk to all others. Synchronous, about 30 ms. */
  host(name: string): Host {
    const number = this.#hosts.size + 1;
    if (!HOST_NAME.test(name) || name === 'router' || name === 'lo' || this.#hosts.has(name))
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `host name: ${name}` });
    if (number > MAX_HOSTS)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `a lab has at most ${MAX_HOSTS} hosts` });
    const network4 = `10.69.${number}`;
    const network6 = `fd69:${number.toString(16)}:`;
    const host = new Host(
      name,
      `${this.#prefix}-${name}`,
      join(this.#cgroup, name),
      `${network4}.1`,
      `${network6}:1`,
    );
    this.#hosts.set(name, host);
    this.#addNamespace(host);
    const port = host.routerInterface;
    tool(
      'ip',
      ['-batch', '-'],
      `link add name eth0 netns ${host.namespace} type veth peer name ${port} netns ${this.router.namespace}\n`,
    );
    // "nodad": addresses are usable at once, nobody else could have them.
    tool(
      'ip',
      ['-n', this.router.namespace, '-batch', '-'],
      `address add ${network4}.254/24 dev ${port}
       address add ${network6}:fe/64 dev ${port} nodad
       link set dev ${port} up\n`,
    );
    tool(
      'ip',
      ['-n', host.namespace, '-batch', '-'],
      `address add ${host.address4}/24 dev eth0
       address add ${host.address6}/64 dev eth0 nodad
       link set dev eth0 up
       route add default via ${network4}.254
       route add ::/0 via ${network6}:fe\n`,
    );
    return host;
  }

  /**
   * Kills what still runs in the lab and removes all of it. Calling it again does no harm.
   * @throws ERR_TCPCRYPT_LAB when something could not be removed.
   */
  async destroy(): Promise<void> {
    await this.#guard.run();
    const left = [
      ...namespaces().filter((namespace) => namespace.startsWith(`${this.#prefix}-`)),
      ...[this.#cgroup, this.directory].filter(existsSync),
    ];
    if (left.length > 0)
      throw new TcpcryptError('ERR_TCPCRYPT_LAB', { detail: `not removed: ${left.join(', ')}` });
  }

  #addRouter(): void {
    mkdirSync(this.#cgroup);
    this.#addNamespace(this.router);
    this.#writeSysctls(this.router, { 'ipv4/ip_forward': 1, 'ipv6/conf/all/forwarding': 1 });
  }

  #addNamespace(member: Host | Router): void {
    mkdirSync(member.cgroup);
    tool('ip', ['netns', 'add', member.namespace]);
    tool('ip', ['-n', member.namespace, 'link', 'set', 'lo', 'up']);
    this.#writeSysctls(member, {
      // Distributions differ in this default, which new namespaces inherit; TPROXY and routing by mark want it off.
      'ipv4/conf/all/rp_filter': 0,
      'ipv4/conf/default/rp_filter': 0,
      // Otherwise link-local addresses, and with them neighbour discovery, are unusable for the first two seconds.
      'ipv6/conf/all/accept_dad': 0,
      'ipv6/conf/default/accept_dad': 0,
    });
  }

  #writeSysctls(member: Host | Router, values: Record<string, number>): void {
    const lines = Object.entries(values).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
    member.enter('sh', ['-ec', lines.join('\n')]);
  }

  #removeScript(): string {
    return `PATH=${shellWord(TOOL_PATH)}
${removeCgroupScript(this.#cgroup)}
for namespace in /run/netns/${this.#prefix}-*; do
  [ -e "$namespace" ] && ip netns delete "\${namespace##*/}"
done
rm -rf ${shellWord(this.directory)}`;
  }
}

function namespaces(): string[] {
  return existsSync('/run/netns') ? readdirSync('/run/netns') : [];
}
