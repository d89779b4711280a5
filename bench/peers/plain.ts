import { type Peer, SERVER_PORT } from '../peer.js';

const nodeNet = (name: string, kind: 'plain' | 'arithmetic', works: Peer['works']): Peer => ({
  name,
  works,
  compareAuthenticated: kind === 'plain' && works === 'all',
  setUp: async ({ address }) => ({
    connect: { kind, host: address, port: SERVER_PORT, intoOwnMemory: works === 'receiving' },
    listen: { kind, port: SERVER_PORT },
  }),
});

/** node:net at both ends: what all others are compared with. */
export const plain = nodeNet('plain TCP', 'plain', 'all');

/**
 * The same, with clients that receive into memory of their own; and with the arithmetic of encryption, but without any
 * protocol: a floor for those who encrypt.
 */
export const plainVariants: readonly Peer[] = [
  nodeNet('plain TCP, onread', 'plain', 'receiving'),
  nodeNet('plain TCP and arithmetic', 'arithmetic', 'all'),
  nodeNet('plain TCP and arithmetic, onread', 'arithmetic', 'receiving'),
];
