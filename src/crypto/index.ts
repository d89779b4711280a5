/** The cryptography of tcpcrypt: key agreement, HKDF, AEAD. Knows no message and no state. */
import { type AeadFactory, nodeAead } from './aead.js';
import { evpAead } from './evp-aead.js';

/** The fastest AEAD that this process has. */
export const aead: AeadFactory = (name, key) => (evpAead(name) ?? nodeAead)(name, key);

export * from './aead.js';
export { type CprfKey, cprfKey, fastCprfKey, plainCprfKey } from './cprf-key.js';
export { evpAead } from './evp-aead.js';
export { evpKeyPairs } from './evp-key-agreement.js';
export { frameRoom, recycle } from './frame-room.js';
export * from './hkdf.js';
export { fastHmac, nodeHmac } from './hmac.js';
export * from './key-agreement.js';
export { memoryOf } from './openssl.js';
export * from './public-random.js';
