/** What one process that relays has to tell: figures, and its connections. Plain data, as it may come from a worker. */
import { readdirSync } from 'node:fs';
import type { ConnectionEntry, ConnectionLog, Traffic } from '../connection-log.js';
import { endpointText } from '../endpoint.js';
import type { ConnectionStatus, Status } from './protocol.js';

export interface WorkReport {
  /** Which worker, from 0; absent where there is none but the daemon itself. */
  readonly worker?: number;
  readonly pid: number;
  readonly connections: Status['connections'];
  readonly held: number;
  readonly standIns: number;
  readonly destinations: number;
  readonly bytes: Status['bytes'];
  readonly memoryBytes: number;
  readonly openFiles: number | null;
  readonly counters: Readonly<Record<string, number>>;
  readonly fallbacks: Readonly<Record<string, number>>;
  readonly failures: Readonly<Record<string, number>>;
  readonly shed: Readonly<Record<string, number>>;
  /** A limit is reached now. */
  readonly shedding: boolean;
  /** Why something is not as it should be. */
  readonly problems: readonly string[];
}

export const workReport = (
  log: ConnectionLog,
  now: Pick<WorkReport, 'held' | 'standIns' | 'destinations'> = { held: 0, standIns: 0, destinations: 0 },
): WorkReport => ({
  pid: process.pid,
  connections: census(log.connections),
  ...now,
  bytes: { outbound: log.traffic('outbound'), inbound: log.traffic('inbound') },
  memoryBytes: process.memoryUsage.rss(),
  openFiles: openFiles(),
  counters: log.counters,
  fallbacks: log.fallbacks.counts,
  failures: log.failures.counts,
  shed: log.shedding.counts.counts,
  shedding: log.shedding.active,
  problems: [],
});

/** Of a process that has said nothing yet. */
export const NO_REPORT: WorkReport = {
  pid: 0,
  connections: { outbound: 0, inbound: 0, encrypted: 0, plain: 0, handshake: 0 },
  held: 0,
  standIns: 0,
  destinations: 0,
  bytes: { outbound: { received: 0, sent: 0 }, inbound: { received: 0, sent: 0 } },
  memoryBytes: 0,
  openFiles: 0,
  counters: {},
  fallbacks: {},
  failures: {},
  shed: {},
  shedding: false,
  problems: [],
};

/** What is left of a process that has ended: what it counted. */
export const epitaph = ({ worker: _, ...report }: WorkReport): WorkReport => ({
  ...report,
  connections: NO_REPORT.connections,
  held: 0,
  standIns: 0,
  destinations: 0,
  memoryBytes: 0,
  openFiles: 0,
  shedding: false,
  problems: [],
});

/** All in one. @throws RangeError when there is none */
export function together([first, ...others]: readonly WorkReport[]): WorkReport {
  if (first === undefined) throw new RangeError('no report');
  return others.reduce(
    (sum, report): WorkReport => ({
      pid: sum.pid,
      connections: added(sum.connections, report.connections) as Status['connections'],
      held: sum.held + report.held,
      standIns: sum.standIns + report.standIns,
      destinations: sum.destinations + report.destinations,
      bytes: {
        outbound: added(sum.bytes.outbound, report.bytes.outbound) as unknown as Traffic,
        inbound: added(sum.bytes.inbound, report.bytes.inbound) as unknown as Traffic,
      },
      memoryBytes: sum.memoryBytes + report.memoryBytes,
      openFiles:
        sum.openFiles === null || report.openFiles === null ? null : sum.openFiles + report.openFiles,
      counters: added(sum.counters, report.counters),
      fallbacks: added(sum.fallbacks, report.fallbacks),
      failures: added(sum.failures, report.failures),
      shed: added(sum.shed, report.shed),
      shedding: sum.shedding || report.shedding,
      problems: [...sum.problems, ...report.problems],
    }),
    first,
  );
}

function added(a: object, b: object): Record<string, number> {
  const sum = { ...a } as Record<string, number>;
  for (const [key, value] of Object.entries(b) as [string, number][]) sum[key] = (sum[key] ?? 0) + value;
  return sum;
}

function census(connections: Iterable<ConnectionEntry>): Status['connections'] {
  const count = { outbound: 0, inbound: 0, encrypted: 0, plain: 0, handshake: 0 };
  for (const entry of connections) {
    count[entry.direction]++;
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
    ...(standIn === undefined ? {} : { kernelRemote: endpointText(standIn) }),
    state: stateOf(entry),
    policy,
    ...description,
    bytesReceived: channel?.dataReceived ?? 0,
    bytesSent: channel?.dataSent ?? 0,
    seconds: seconds(since),
  };
}

export const seconds = (since: number): number => Math.max(0, Math.round((Date.now() - since) / 1000));

function openFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return null; // none left to look with
  }
}
