/**
 * The key exchange of a fresh session (RFC 8548 §3.3):
 *
 *     A -> B : Init1 = INIT1_MAGIC, sym_cipher_list, N_A, Pub_A
 *     B -> A : Init2 = INIT2_MAGIC, sym_cipher,      N_B, Pub_B
 *
 *     ES  = DH(own private key, peer's public key)
 *     PRK = Extract(N_A, eno_transcript | Init1 | Init2 | ES)
 */
import type { KeyPair } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import {
  type AeadId,
  type Decoded,
  decodeInit1,
  decodeInit2,
  encodeInit1,
  encodeInit2,
  type Init1,
  type Init2,
  type TepId,
} from '../wire/index.js';
import { SessionSecret } from './key-schedule.js';

/** What one end brings along. */
export interface KeyExchangeInput {
  readonly tep: TepId;
  readonly transcript: Uint8Array;
  /** Role A: what is offered; role B: what is accepted, most preferred first. */
  readonly ciphers: readonly AeadId[];
  readonly keyPair: KeyPair;
  /** N_A or N_B: 32 random bytes. */
  readonly nonce: Uint8Array;
}

/** What both ends know afterwards. */
export interface KeyExchangeOutput {
  readonly secret: SessionSecret;
  readonly cipher: AeadId;
  /** The streams' first frames stand behind these messages. */
  readonly init1Length: number;
  readonly init2Length: number;
}

/** Host A's part: sends Init1, waits for Init2. */
export class KeyExchangeA {
  readonly init1: Uint8Array;
  readonly #input: KeyExchangeInput;

  constructor(input: KeyExchangeInput) {
    const { tep, ciphers, nonce, keyPair } = input;
    this.#input = input;
    this.init1 = encodeInit1(tep, { ciphers, nonce, publicKey: keyPair.publicKey });
  }

  /**
   * @param init2 the complete message as received, ignored bytes included
   * @throws ERR_TCPCRYPT_INIT_CIPHER_NOT_OFFERED, ERR_TCPCRYPT_INIT_PUBLIC_KEY, and those of decodeInit2
   */
  receiveInit2(init2: Uint8Array): KeyExchangeOutput {
    const { tep, transcript, ciphers, nonce, keyPair } = this.#input;
    const received = complete<Init2>(decodeInit2(tep, init2));
    const cipher = ciphers.find((offered) => offered === received.cipher);
    if (cipher === undefined) throw new TcpcryptError('ERR_TCPCRYPT_INIT_CIPHER_NOT_OFFERED'); // TC-10
    const es = keyPair.agree(received.publicKey);
    const secret = SessionSecret.ofKeyExchange({ transcript, nonceA: nonce, init1: this.init1, init2, es });
    return { secret, cipher, init1Length: this.init1.length, init2Length: init2.length };
  }
}

/**
 * Host B's part: waits for Init1, answers with Init2.
 *
 * @param init1 the complete message as received, ignored bytes included
 * @throws ERR_TCPCRYPT_INIT_NO_CIPHER, ERR_TCPCRYPT_INIT_PUBLIC_KEY, and those of decodeInit1
 */
export function answerInit1(
  { tep, transcript, ciphers, nonce, keyPair }: KeyExchangeInput,
  init1: Uint8Array,
): KeyExchangeOutput & { readonly init2: Uint8Array } {
  const received = complete<Init1>(decodeInit1(tep, init1));
  const cipher = ciphers.find((accepted) => received.ciphers.includes(accepted));
  if (cipher === undefined) throw new TcpcryptError('ERR_TCPCRYPT_INIT_NO_CIPHER');
  const init2 = encodeInit2(tep, { cipher, nonce, publicKey: keyPair.publicKey });
  const es = keyPair.agree(received.publicKey);
  const secret = SessionSecret.ofKeyExchange({ transcript, nonceA: received.nonce, init1, init2, es });
  return { init2, secret, cipher, init1Length: init1.length, init2Length: init2.length };
}

/** The caller waited for the whole message; a message that now needs more contradicts itself. */
function complete<Message>(decoded: Decoded<Message>): Message {
  if (!decoded.complete) throw new TcpcryptError('ERR_TCPCRYPT_INIT_LENGTH');
  return decoded.message;
}
