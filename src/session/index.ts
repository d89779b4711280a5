/** The protocol of tcpcrypt without input or output: negotiation, keys, frames. Start at {@link Session}. */
export { generateKeyPair, type KeyPair, publicRandomBytes, recycle } from '../crypto/index.js';
export { AEADS, type AeadId, INIT1_MAGIC, isAeadId, isTepId, TEPS, type TepId } from '../wire/index.js';
export * from './negotiation.js';
export * from './offer.js';
export * from './resumption.js';
export * from './resumption-cache.js';
export * from './session.js';
export type { SessionOptions } from './session-options.js';
export {
  CACHE_LIFETIME,
  CACHE_LIMIT,
  DEFAULT_CIPHERS,
  DEFAULT_TEPS,
  LOOK_AHEAD,
  MAX_FRAME_DATA,
} from './tuning.js';
