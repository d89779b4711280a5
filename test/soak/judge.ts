/** Joins what both ends say of each connection, and tells what must not be. */

export interface ConnectionRecord {
  readonly id: number;
  readonly plan: string;
  readonly how: string;
  readonly sent: number;
  readonly got: number;
  readonly altered: boolean;
}
export interface ClientRecord extends ConnectionRecord {
  /** Bytes of application data that the client meant to send, and to get. */
  readonly up: number;
  readonly down: number;
}

export interface Verdict {
  /** How the connections ended, as the client saw it. */
  readonly endings: Readonly<Record<string, number>>;
  readonly clean: number;
  readonly bytes: number;
  /** The program at one end was killed meanwhile, so nothing is known of that end. */
  readonly killed: number;
  readonly violations: readonly string[];
}

/** Plans in which the server's end says that it has got everything. */
const CONFIRMED = new Set(['up-down', 'echo']);

/**
 * @param clients,servers by connection
 * @param begun how many connections were begun: the client of those without record was killed
 */
export function judge(
  clients: ReadonlyMap<number, ClientRecord>,
  servers: ReadonlyMap<number, ConnectionRecord>,
  begun: number,
): Verdict {
  const endings: Record<string, number> = {};
  const violations: string[] = [];
  let [clean, bytes, unknown] = [0, 0, 0];
  for (const client of clients.values()) {
    endings[client.how] = (endings[client.how] ?? 0) + 1;
    const server = servers.get(client.id);
    const complain = (what: string): void => {
      violations.push(`${what}: client ${JSON.stringify(client)}, server ${JSON.stringify(server)}`);
    };
    bytes += client.got + (server?.got ?? 0);
    if (client.altered || server?.altered) complain('altered bytes');
    if (client.how === 'end') {
      // No word from a server: it was killed, and its kernel ended what it had, which looks like an end.
      if (server === undefined) unknown++;
      else if (server.how !== 'end') {
        // Where the server had said its end before, what the client sent may still have been on its way.
        if (CONFIRMED.has(client.plan)) complain('only the client saw an end');
      } else if (client.got !== client.down || server.got !== client.up) complain('lost bytes');
      else clean++;
    } else if (
      server?.how === 'end' &&
      server.got < client.up &&
      !['i closed', 'timeout'].includes(client.how)
    )
      complain('what was cut off looked complete');
  }
  for (const server of servers.values())
    if (server.altered && !clients.has(server.id))
      violations.push(`altered bytes: server ${JSON.stringify(server)}`);
  return { endings, clean, bytes, killed: begun - clients.size + unknown, violations };
}
