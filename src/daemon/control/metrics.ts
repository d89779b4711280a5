/** The daemon's figures for Prometheus: `GET /metrics` on a port of the loopback interface, or a Unix socket. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { TcpcryptError } from '../../errors.js';
import type { Direction } from '../connection-log.js';
import type { Daemon } from '../daemon.js';
import type { ReadyPlace } from './metrics-place.js';
import { problemsOf } from './report.js';
import { together, type WorkReport } from './work-report.js';

const DIRECTIONS: readonly Direction[] = ['outbound', 'inbound'];
const CLIENTS_LIMIT = 16;
/** How long a request may take to come in (ms). */
const REQUEST_TIMEOUT = 10_000;

/** @throws ERR_TCPCRYPT_SYSTEM when the place is taken */
export async function serveMetrics(daemon: Daemon, place: ReadyPlace): Promise<Server> {
  let report = together(await daemon.reports());
  const registry = registryOf(daemon, () => report);
  const metrics = async (): Promise<string> => {
    report = together(await daemon.reports());
    return registry.metrics();
  };
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT, headersTimeout: REQUEST_TIMEOUT },
    (request, response) => {
      if (request.method !== 'GET' || request.url !== '/metrics') {
        response.writeHead(request.method === 'GET' ? 404 : 405).end();
        return;
      }
      metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    },
  );
  server.maxConnections = CLIENTS_LIMIT;
  server.listen(place);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', { detail: `metrics: ${(cause as Error).message}`, cause });
  }
  server.on('error', () => {}); // out of descriptors: not served now
  return server;
}

/** @param report the latest */
function registryOf(daemon: Daemon, report: () => WorkReport): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  gauge(registry, 'tcpcrypt_up', 'Whether the daemon takes connections', [], () => [
    [{}, daemon.stopping ? 0 : 1],
  ]);
  gauge(registry, 'tcpcrypt_problems', 'Why it does not encrypt what it should: how many reasons', [], () => [
    [{}, problemsOf(daemon, report()).length],
  ]);
  gauge(registry, 'tcpcrypt_connections', 'Connections that are relayed', ['state'], () => {
    const { encrypted, plain, handshake } = report().connections;
    return [
      [{ state: 'encrypted' }, encrypted],
      [{ state: 'plain' }, plain],
      [{ state: 'handshake' }, handshake],
    ];
  });
  gauge(registry, 'tcpcrypt_held_syns', 'Connections that wait for the far host’s answer', [], () => [
    [{}, report().held],
  ]);
  gauge(registry, 'tcpcrypt_remembered_destinations', 'Destinations in the path memory', [], () => [
    [{}, report().destinations],
  ]);
  counter(registry, 'tcpcrypt_bytes_total', 'Bytes of application data', ['direction', 'way'], () =>
    DIRECTIONS.flatMap((direction) => {
      const { received, sent } = report().bytes[direction];
      return [
        [{ direction, way: 'received' }, received],
        [{ direction, way: 'sent' }, sent],
      ] as Sample[];
    }),
  );
  counter(registry, 'tcpcrypt_events_total', 'What became of connections', ['event'], () =>
    Object.entries(daemon.counts(report()).events).map(([event, value]) => [{ event }, value]),
  );
  counter(registry, 'tcpcrypt_fallbacks_total', 'Connections that stayed plain TCP', ['reason'], () =>
    Object.entries(report().fallbacks).map(([reason, value]) => [{ reason }, value]),
  );
  counter(registry, 'tcpcrypt_failures_total', 'Connections that failed', ['code'], () =>
    Object.entries(report().failures).map(([code, value]) => [{ code }, value]),
  );
  counter(registry, 'tcpcrypt_shed_total', 'Connections that a limit kept out', ['limit'], () =>
    Object.entries(report().shed).map(([limit, value]) => [{ limit }, value]),
  );
  return registry;
}

type Sample = [labels: Record<string, string>, value: number];

/** The daemon counts; Prometheus is told when it asks. */
function counter(
  registry: Registry,
  name: string,
  help: string,
  labelNames: string[],
  samples: () => Sample[],
): void {
  new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      this.reset();
      for (const [labels, value] of samples()) this.inc(labels, value);
    },
  });
}

function gauge(
  registry: Registry,
  name: string,
  help: string,
  labelNames: string[],
  samples: () => Sample[],
): void {
  new Gauge({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      this.reset();
      for (const [labels, value] of samples()) this.set(labels, value);
    },
  });
}
