/** The bytes of TCP-ENO (RFC 8547) and tcpcrypt (RFC 8548): readers and writers, no cryptography, no state. */
export * from './constants.js';
export * from './eno-option.js';
export * from './frame.js';
export * from './init-message.js';
export { StreamOffset } from './stream-offset.js';
export { findEnoOptions } from './tcp-options.js';
