/** The cryptography of tcpcrypt on node:crypto: key agreement, HKDF, AEAD. Knows no message and no state. */
export * from './aead.js';
export * from './hkdf.js';
export * from './key-agreement.js';
