/**
 * The arithmetic of an encrypted connection, done and thrown away while the bytes travel in plaintext: what is left when
 * there are no handshake, no keys to derive, no frames and no sessions. Who encrypts with the same OpenSSL, from node:net's
 * reads and writes, is not below that.
 */
import type { Duplex } from 'node:stream';
import { aead, generateKeyPair, memoryOf, TAG_LENGTH } from '#src/crypto/index.js';
import { CHUNK } from './protocol.js';

const HEADER = new Uint8Array(3);
const NONCE = new Uint8Array(12);
const key = aead('AES-128-GCM', new Uint8Array(16));
const room = memoryOf(Buffer.allocUnsafeSlow(HEADER.length + CHUNK + TAG_LENGTH));
const own = generateKeyPair('X25519');
const peer = generateKeyPair('X25519').publicKey;

/** A key agreement; with a key pair of its own, as the end that connects needs one. */
export function agree(pair: 'fresh' | 'shared'): void {
  (pair === 'fresh' ? generateKeyPair('X25519') : own).agree(peer);
}

/** From now on all that is written and read is also encrypted once: to decrypt it would cost no less. */
export function encipher(stream: Duplex): void {
  const write = stream.write.bind(stream);
  stream.write = ((bytes: Buffer) => {
    seal(bytes);
    return write(bytes);
  }) as Duplex['write'];
  stream.on('data', seal);
}

function seal(bytes: Uint8Array): void {
  key.seal(NONCE, HEADER, [bytes], room, 0);
}
