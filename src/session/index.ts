/** The protocol of tcpcrypt without input or output: negotiation, keys, frames. Start at {@link Session}. */
export {
  type AeadFactory,
  type AeadKey,
  type AeadName,
  type Curve,
  generateKeyPair,
  type KeyPair,
  type Memory,
  publicRandomBytes,
  recycle,
} from '../crypto/index.js';
export type { ErrorCode } from '../errors.js';
export {
  AEADS,
  type AeadId,
  type AeadRow,
  INIT1_MAGIC,
  isAeadId,
  isTepId,
  TEPS,
  type TepId,
  type TepRow,
} from '../wire/index.js';
export * from './negotiation.js';
export * from './offer.js';
export type { PlaintextRoom } from './receiver.js';
export * from './resumption.js';
export * from './resumption-cache.js';
export * from './session.js';
export * from './session-event.js';
export type { SessionOptions } from './session-options.js';
export {
  CACHE_LIFETIME,
  CACHE_LIMIT,
  DEFAULT_CIPHERS,
  DEFAULT_TEPS,
  LOOK_AHEAD,
  MAX_FRAME_DATA,
} from './tuning.js';
