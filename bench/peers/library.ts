import { loadKernelPart } from '#src/demo/kernel-part.js';
import { type Peer, SERVER_PORT } from '../peer.js';

/** Our library at both ends, every connection with its own key exchange. */
export const library: Peer = {
  name: 'tcpcrypt library',
  works: 'all',
  compareAuthenticated: true,
  async setUp({ client, server }) {
    const kernels = [client, server].map(loadKernelPart);
    return {
      connect: { kind: 'tcpcrypt', host: server.address4, port: SERVER_PORT, mode: 'required' },
      listen: { kind: 'tcpcrypt', port: SERVER_PORT, mode: 'required' },
      tearDown: async () => {
        for (const { undo } of kernels) await undo();
      },
    };
  },
};
