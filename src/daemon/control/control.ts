/** All that can be asked of a running daemon: the control socket, and where wanted the metrics. */
import type { Server } from 'node:http';
import type { Daemon } from '../daemon.js';
import { canonical } from '../endpoint.js';
import type { Policy } from '../policy/policy.js';
import type { ReadyPlace } from './metrics-place.js';
import { statusOf } from './report.js';
import { ControlServer } from './server.js';

export interface ControlOptions {
  /** A listening Unix socket, see {@link openControlSocket}; from now on it belongs to the result. */
  readonly fd: number;
  readonly metrics?: ReadyPlace;
  /** Reads the policy anew, and logs what came of it. */
  readonly reload: () => Promise<Policy>;
}

export class Control {
  readonly #server: ControlServer;
  readonly #metrics: Server | undefined;

  private constructor(server: ControlServer, metrics: Server | undefined) {
    this.#server = server;
    this.#metrics = metrics;
  }

  static async start(daemon: Daemon, { fd, metrics, reload }: ControlOptions): Promise<Control> {
    const server = await ControlServer.start(fd, {
      status: () => statusOf(daemon),
      connections: () => ({ items: daemon.connectionList() }),
      paths: async () => ({ items: await daemon.paths() }),
      'flush-paths': async ({ address }) => ({
        forgotten: await daemon.forgetPaths(address === undefined ? undefined : canonical(address)),
      }),
      reload: async () => {
        const { source, rules } = await reload();
        return { policy: source, rules: rules.length };
      },
    });
    try {
      return new Control(server, metrics && (await serve(daemon, metrics)));
    } catch (error) {
      server.close();
      throw error;
    }
  }

  close(): void {
    this.#server.close();
    this.#metrics?.close();
    this.#metrics?.closeAllConnections();
  }
}

/** Loads what it takes only where somebody wants it. */
async function serve(daemon: Daemon, place: ReadyPlace): Promise<Server> {
  const { serveMetrics } = await import('./metrics.js');
  return serveMetrics(daemon, place);
}
