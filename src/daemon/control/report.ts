/** The daemon in figures, for the control socket and for Prometheus. */
import { readdirSync, readFileSync } from 'node:fs';
import { kernelPartPresent } from '../../kernel/eno-socket.js';
import type { ConnectionEntry } from '../connection-log.js';
import type { Daemon } from '../daemon.js';
import type { ConnectionStatus, Status } from './protocol.js';

/** Read while we are root: the package may be in a directory that is closed to the daemon's user. */
const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export function statusOf(daemon: Daemon): Status {
  const { log, memory } = daemon;
  const problems = problemsOf(daemon);
  const { events, refused } = daemon.counts;
  return {
    state: daemon.stopping ? 'stopping' : problems.length > 0 ? 'degraded' : 'running',
    problems,
    version: VERSION,
    pid: process.pid,
    since: daemon.since.toISOString(),
    seconds: seconds(daemon.since.getTime()),
    policy: daemon.policy.source,
    connections: census(log.connections),
    heldSyns: daemon.held,
    rememberedDestinations: memory.size,
    bytes: { outbound: log.traffic('outbound'), inbound: log.traffic('inbound') },
    memoryBytes: process.memoryUsage.rss(),
    openFiles: openFiles(),
    counters: events,
    fallbacks: log.fallbacks.counts,
    failures: log.failures.counts,
    ...(refused === undefined ? {} : { refused }),
    shed: log.shedding.counts.counts,
  };
}

function problemsOf({ log, problem }: Daemon): string[] {
  const problems: string[] = [];
  if (kernelPartGone())
    problems.push('the kernel part is gone, nothing is encrypted: run "tcpcrypt up" and restart the daemon');
  if (problem !== undefined) problems.push(problem);
  if (log.shedding.active)
    problems.push(
      'a limit is reached, new connections stay plain: see --max-connections, --max-held, LimitNOFILE=',
    );
  return problems;
}

export function census(connections: Iterable<ConnectionEntry>): Status['connections'] {
  const count = { outbound: 0, inbound: 0, encrypted: 0, plain: 0, handshake: 0 };
  for (const entry of connections) {
    count[entry.facts.direction]++;
    count[stateOf(entry) === 'secure' ? 'encrypted' : stateOf(entry) === 'plain' ? 'plain' : 'handshake']++;
  }
  return count;
}

const stateOf = ({ isReady, channel }: ConnectionEntry): ConnectionStatus['state'] =>
  !isReady || channel === undefined ? 'handshake' : channel.encrypted ? 'secure' : 'plain';

export function connectionStatus(entry: ConnectionEntry): ConnectionStatus {
  const { facts, channel, policy, standIn, since } = entry;
  const {
    encrypted: _,
    transcript: __,
    role: ___,
    ...description
  } = entry.description() ?? { encrypted: false };
  return {
    ...facts,
    ...(standIn === undefined ? {} : { kernelRemote: standIn }),
    state: stateOf(entry),
    policy,
    ...description,
    bytesReceived: channel?.dataReceived ?? 0,
    bytesSent: channel?.dataSent ?? 0,
    seconds: seconds(since),
  };
}

const seconds = (since: number): number => Math.max(0, Math.round((Date.now() - since) / 1000));

function openFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return null; // none left to look with
  }
}

/** Out of descriptors, nobody knows. */
function kernelPartGone(): boolean {
  try {
    return !kernelPartPresent();
  } catch {
    return false;
  }
}
