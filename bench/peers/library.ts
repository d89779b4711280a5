import { loadKernelPart } from '#src/demo/kernel-part.js';
import { type Peer, SERVER_PORT } from '../peer.js';

/** Our library at both ends. */
const library = (
  name: string,
  works: Peer['works'],
  { resume = false, ...lifetime }: { resume?: boolean; keyLifetime?: number } = {},
): Peer => ({
  name,
  works,
  compareAuthenticated: works === 'all',
  async setUp({ client, server, address }) {
    const kernels = [client, server].map(loadKernelPart);
    const common = { kind: 'tcpcrypt', port: SERVER_PORT, mode: 'required', resume } as const;
    return {
      connect: { ...common, host: address, intoOwnMemory: works === 'receiving' },
      listen: { ...common, ...lifetime },
      tearDown: async () => {
        for (const { undo } of kernels) await undo();
      },
    };
  },
});

/**
 * Every connection with its own key exchange; the same, but the server has a fresh key pair for each as well; and all of a
 * client from one key exchange. At last a client that receives into memory of its own.
 */
export const libraryPeers: readonly Peer[] = [
  library('tcpcrypt library', 'all'),
  library('tcpcrypt library, fresh keys', 'connections', { keyLifetime: 0 }),
  library('tcpcrypt library resumed', 'connections', { resume: true }),
  library('tcpcrypt library, onread', 'receiving'),
];
