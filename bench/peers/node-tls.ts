import { certificate, type KeyType } from '../certificate.js';
import { type Peer, SERVER_PORT } from '../peer.js';

/** node:tls, TLS 1.3. The client does not check the certificate's chain; the signature it does check. */
const nodeTls = (name: string, works: Peer['works'], type: KeyType, resume: boolean): Peer => ({
  name,
  works,
  compareAuthenticated: works !== 'receiving' && !resume,
  async setUp({ lab, address }) {
    return {
      connect: {
        kind: 'tls',
        host: address,
        port: SERVER_PORT,
        resume,
        intoOwnMemory: works === 'receiving',
      },
      listen: { kind: 'tls', port: SERVER_PORT, ...certificate(lab, type) },
    };
  },
});

export const nodeTlsPeers: readonly Peer[] = [
  nodeTls('Node TLS ECDSA', 'all', 'ecdsa', false),
  nodeTls('Node TLS ECDSA resumed', 'connections', 'ecdsa', true),
  nodeTls('Node TLS ECDSA, onread', 'receiving', 'ecdsa', false),
  nodeTls('Node TLS RSA-2048', 'connections', 'rsa', false),
  nodeTls('Node TLS RSA-2048 resumed', 'connections', 'rsa', true),
];
