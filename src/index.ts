/**
 * tcpcrypt: TCP that encrypts itself (RFC 8547, RFC 8548).
 *
 * `connect` and `createServer` look and feel like those of node:net. The kernel part must have been loaded once
 * by root (`tcpcrypt up`); without it connections are plain TCP, or refused in mode `required`.
 */
export type { Authentication } from './auth/authenticate.js';
export type { Mechanism, Peer } from './auth/mechanism.js';
export {
  type Consequence,
  ERRORS,
  type ErrorCode,
  type ErrorRow,
  type Fault,
  TcpcryptError,
  type TcpcryptErrorOptions,
} from './errors.js';
export {
  AEADS,
  type AeadId,
  type AeadRow,
  type ResumptionCacheOptions,
  TEPS,
  type TepId,
  type TepRow,
} from './session/index.js';
export { type ConnectOptions, connect } from './socket/connect.js';
export type { EncryptionOptions, Mode, RekeyOptions, ResumptionOptions } from './socket/options.js';
export { createServer, type ListenOptions, Server, type ServerOptions } from './socket/server.js';
export { SessionCache, type SessionCacheOptions } from './socket/session-cache.js';
export { Socket, type SocketOptions } from './socket/socket.js';
