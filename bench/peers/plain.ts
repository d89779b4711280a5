import { type Peer, SERVER_PORT } from '../peer.js';

/** node:net at both ends: what all others are compared with. */
export const plain: Peer = {
  name: 'plain TCP',
  works: 'all',
  compareAuthenticated: true,
  setUp: async ({ address }) => ({
    connect: { kind: 'plain', host: address, port: SERVER_PORT },
    listen: { kind: 'plain', port: SERVER_PORT },
  }),
};

export const plainOnread: Peer = {
  name: 'plain TCP, onread',
  works: 'receiving',
  setUp: async ({ address }) => ({
    connect: { kind: 'plain', host: address, port: SERVER_PORT, intoOwnMemory: true },
    listen: { kind: 'plain', port: SERVER_PORT },
  }),
};

/** And the arithmetic of encryption, without any protocol: a floor for those who encrypt. */
export const arithmetic: Peer = {
  name: 'plain TCP and arithmetic',
  works: 'all',
  setUp: async ({ address }) => ({
    connect: { kind: 'arithmetic', host: address, port: SERVER_PORT },
    listen: { kind: 'arithmetic', port: SERVER_PORT },
  }),
};

/** As {@link arithmetic}, for receivers into memory of their own. */
export const arithmeticOnread: Peer = {
  name: 'plain TCP and arithmetic, onread',
  works: 'receiving',
  setUp: async ({ address }) => ({
    connect: { kind: 'arithmetic', host: address, port: SERVER_PORT, intoOwnMemory: true },
    listen: { kind: 'arithmetic', port: SERVER_PORT },
  }),
};
