/**
 * Mechanism `shared-key`: both ends hold the same strong secret. Each sends HMAC-SHA256(K, binding of its role) at
 * once and checks the other's: two symmetric operations per side, no round trip beyond the HELLOs.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { TcpcryptError } from '../errors.js';
import { text } from './bytes.js';
import { check } from './check.js';
import { purposeKey } from './labels.js';
import type { Mechanism } from './mechanism.js';

/** A secret of less than 128 bits could be guessed by whoever sees one MAC. For weak ones there is {@link cpace}. */
export const SHARED_KEY_MIN = 16;
const MAC_LENGTH = 32;

/** Options of {@link sharedKey}: one key, or many. */
export type SharedKeyOptions =
  /** The end that has one key. `id` tells the other end which; it is sent to whoever answers. Default ''. */
  | { readonly key: Uint8Array; readonly id?: string }
  /** The end that has many: the key of that id, or undefined. */
  | {
      readonly keys: (id: string) => Uint8Array | undefined | PromiseLike<Uint8Array | undefined>;
    };

/**
 * @throws ERR_TCPCRYPT_ARGUMENT for a key of less than 16 bytes
 * The connection fails with ERR_TCPCRYPT_AUTH_PROOF when the keys differ, also when the id is unknown.
 */
export function sharedKey(options: SharedKeyOptions): Mechanism {
  const own = 'key' in options ? { id: options.id ?? '', key: macKey(options.key) } : undefined;
  return {
    name: 'shared-key',
    canProve: true,
    canVerify: true,
    hint: Buffer.from(own?.id ?? ''),
    async run({ role, binding, peerHint, send, receive }) {
      let id = own?.id ?? '';
      let key = own?.key;
      if ('keys' in options) {
        id = text(peerHint);
        const found = await options.keys(id);
        // An unknown id looks exactly like a wrong key.
        key = found === undefined ? randomBytes(32) : macKey(found);
      }
      const mac = (prover: 'A' | 'B'): Buffer =>
        createHmac('sha256', key ?? randomBytes(32))
          .update(binding(prover))
          .digest();
      send(mac(role));
      const received = await receive(MAC_LENGTH);
      const expected = mac(role === 'A' ? 'B' : 'A');
      if (received.length !== MAC_LENGTH || !timingSafeEqual(received, expected)) {
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_PROOF');
      }
      return { mechanism: 'shared-key', name: id };
    },
  };
}

function macKey(key: Uint8Array): Buffer {
  check(key.length >= SHARED_KEY_MIN, `a shared key needs ${SHARED_KEY_MIN} bytes or more`);
  return purposeKey(key, 'shared-key');
}
