import { fileURLToPath } from 'node:url';
import type { Host } from '#src/lab/host.js';
import { type Peer, SERVER_PORT } from '../peer.js';
import { steadyFlags } from '../steady.js';

const NEAR = 7001;
const FAR = 7002;
const program = fileURLToPath(new URL('../relay.js', import.meta.url));

/** A relay on each host, without encryption: what the daemon is compared with. */
export const nodeRelay: Peer = {
  name: 'Node relay pair',
  works: 'all',
  async setUp({ client, server, address, any, loopback }) {
    const relay = (host: Host, ...args: string[]) =>
      host.spawn(process.execPath, [...steadyFlags(), program, ...args], { stdio: 'ignore' });
    relay(server, any, String(FAR), loopback, String(SERVER_PORT));
    relay(client, any, String(NEAR), address, String(FAR));
    await Promise.all([server.waitForListener(FAR), client.waitForListener(NEAR)]);
    return {
      connect: { kind: 'plain', host: loopback, port: NEAR },
      listen: { kind: 'plain', port: SERVER_PORT },
    };
  },
};
