/** The daemon in figures, for the control socket. */
import { readFileSync } from 'node:fs';
import type { Daemon } from '../daemon.js';
import type { Status } from './protocol.js';
import { seconds, together, type WorkReport } from './work-report.js';

/** Read while we are root: the package may be in a directory that is closed to the daemon's user. */
const VERSION = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

export async function statusOf(daemon: Daemon): Promise<Status> {
  const reports = await daemon.reports();
  const all = together(reports);
  const problems = problemsOf(daemon, all);
  const { events, refused } = daemon.counts(all);
  return {
    state: daemon.stopping ? 'stopping' : problems.length > 0 ? 'degraded' : 'running',
    problems,
    version: VERSION,
    pid: process.pid,
    since: daemon.since.toISOString(),
    seconds: seconds(daemon.since.getTime()),
    policy: daemon.policy.source,
    connections: all.connections,
    heldSyns: all.held,
    rememberedDestinations: all.destinations,
    bytes: all.bytes,
    memoryBytes: all.memoryBytes,
    openFiles: all.openFiles,
    counters: events,
    fallbacks: all.fallbacks,
    failures: all.failures,
    ...(refused === undefined ? {} : { refused }),
    shed: all.shed,
    ...workers(reports),
  };
}

/** Of workers; what the main process tells, and what former workers have left, is in the sums only. */
function workers(reports: readonly WorkReport[]): Pick<Status, 'workers'> {
  const found = reports.flatMap(({ worker, pid, connections, memoryBytes }) =>
    worker === undefined
      ? []
      : [{ worker, pid, connections: connections.outbound + connections.inbound, memoryBytes }],
  );
  return found.length === 0 ? {} : { workers: found };
}

/** Why it does not encrypt what it should, and the remedies. */
export function problemsOf(
  { problems: ofDaemon }: Daemon,
  { shedding, problems: ofWorkers }: WorkReport,
): string[] {
  const problems = [...ofDaemon, ...ofWorkers];
  if (shedding)
    problems.push(
      'a limit is reached, new connections stay plain: see --max-connections, --max-held, LimitNOFILE=, net.ipv4.ip_local_port_range',
    );
  return problems;
}
