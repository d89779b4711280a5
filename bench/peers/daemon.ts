import { DaemonProcess } from '#src/demo/daemons.js';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import { type Peer, SERVER_PORT } from '../peer.js';

/** What a daemon logs that was told nothing. */
const AS_USUAL = ['--log-level', 'info'];

/** Our daemon on both hosts, with plain programs. */
const pair = (name: string, works: Peer['works'], resume: boolean): Peer => ({
  name,
  works,
  async setUp({ client, server, address }) {
    const hosts = [client, server].map((host) => ({ host, kernel: loadKernelPart(host) }));
    const daemons: DaemonProcess[] = [];
    const start = async (): Promise<void> => {
      for (const { host, kernel } of hosts) {
        const flags = resume ? AS_USUAL : [...AS_USUAL, '--no-resume'];
        daemons.push(await DaemonProcess.start(host, kernel.pins, flags));
      }
    };
    const stop = async (): Promise<void> => {
      for (const process of daemons.splice(0)) await process.stop();
    };
    await start();
    return {
      connect: { kind: 'plain', host: address, port: SERVER_PORT },
      listen: { kind: 'plain', port: SERVER_PORT },
      complaint: () => {
        const plain = daemons.flatMap(({ lines }) => lines.filter(({ event }) => event === 'plain'));
        if (plain.length === 0) return undefined;
        const reasons = [
          ...new Set(plain.map(({ direction, plainReason }) => `${direction} ${plainReason}`)),
        ];
        return `${plain.length} connections were not encrypted, and later ones passed by: ${reasons.join(', ')}`;
      },
      // The daemons remember who answered in plain TCP, and leave the next connections alone.
      renew: async () => {
        await stop();
        await start();
      },
      tearDown: async () => {
        await stop();
        for (const { kernel } of hosts) await kernel.undo();
      },
    };
  },
});

/** Only the client has the daemon: it knows from the first contact that the server does not encrypt. */
const plainServer: Peer = {
  name: 'daemon, plain server',
  works: 'all',
  async setUp({ client, address }) {
    const kernel = loadKernelPart(client);
    const process = await DaemonProcess.start(client, kernel.pins, AS_USUAL);
    return {
      connect: { kind: 'plain', host: address, port: SERVER_PORT },
      listen: { kind: 'plain', port: SERVER_PORT },
      tearDown: async () => {
        await process.stop();
        await kernel.undo();
      },
    };
  },
};

/** Every connection with its own key exchange; and all of a client from one key exchange. */
export const daemonPeers: readonly Peer[] = [
  pair('tcpcrypt daemon pair', 'all', false),
  pair('tcpcrypt daemon pair resumed', 'connections', true),
  plainServer,
];
