import { loadKernelPart } from '#src/demo/kernel-part.js';
import type { Lab } from '#src/lab/lab.js';
import type { AuthenticationSpec } from '../authentication.js';
import { certificate, type KeyType } from '../certificate.js';
import { type Peer, SERVER_PORT } from '../peer.js';

/** Our library, every connection with its own key exchange, and authenticated. The client is anonymous where it can be. */
const authenticated = (name: string, spec: (lab: Lab) => AuthenticationSpec, share = 1): Peer => ({
  name: `tcpcrypt, ${name}`,
  works: 'authenticated',
  share,
  async setUp({ lab, client, server, address }) {
    const kernels = [client, server].map(loadKernelPart);
    const common = { kind: 'tcpcrypt', port: SERVER_PORT, mode: 'required', auth: spec(lab) } as const;
    return {
      connect: { ...common, host: address },
      listen: common,
      tearDown: async () => {
        for (const { undo } of kernels) await undo();
      },
    };
  },
});

const NAMES: { readonly [type in KeyType]: string } = { rsa: 'RSA-2048', ecdsa: 'ECDSA', ed25519: 'Ed25519' };

const signing = (type: KeyType, maximum?: number): Peer =>
  authenticated(
    `${NAMES[type]} certificate, ${maximum === undefined ? 'as many as wait' : `at most ${maximum}`} per signature`,
    (lab) => ({
      mechanism: 'certificate',
      ...certificate(lab, type),
      ...(maximum === undefined ? {} : { maximum }),
    }),
  );

export const authenticatedPeers: readonly Peer[] = [
  authenticated('shared key', () => ({ mechanism: 'shared-key' })),
  authenticated('known key', () => ({ mechanism: 'known-key' })),
  ...[1, 4, 16, undefined].map((maximum) => signing('rsa', maximum)),
  ...[1, 16, undefined].map((maximum) => signing('ecdsa', maximum)),
  ...[1, 16, undefined].map((maximum) => signing('ed25519', maximum)),
  authenticated('CPace', () => ({ mechanism: 'cpace' }), 0.1),
  authenticated('SPAKE2+', () => ({ mechanism: 'spake2plus' }), 0.1),
];
