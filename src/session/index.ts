/** The protocol of tcpcrypt without input or output: negotiation, keys, frames. Start at {@link Session}. */
export * from './negotiation.js';
export * from './resumption.js';
export * from './session.js';
export type { SessionOptions } from './session-options.js';
export { DEFAULT_CIPHERS, MAX_FRAME_DATA } from './tuning.js';
