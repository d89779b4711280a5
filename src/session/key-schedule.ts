/**
 * The key schedule (RFC 8548 §3.3, §3.4), one class for each stage: a secret can only be turned into what the
 * specification derives from it.
 *
 *     SessionSecret ss[i] ──next()──► ss[i+1]                     one for each session of a chain
 *        │      │      └─ resumptionId(), sessionId(sn)
 *        └─ masterKey(sn)
 *     MasterKey mk[j] ──next()──► mk[j+1]                         one for each key generation of a connection
 *        └─ trafficKey(direction)
 *     TrafficKey: key and NR                                      one for each direction
 *
 * Whoever holds a stage erases it, as soon as nothing more will be derived from it.
 */
import { type AeadFactory, type AeadKey, type CprfKey, cprfKey, extract } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import {
  AEADS,
  type AeadId,
  CONST_KEY_A,
  CONST_KEY_B,
  CONST_NEXTK,
  CONST_REKEY,
  CONST_RESUME,
  CONST_SESSID,
  RESUME_HALF_LENGTH,
  SECRET_LENGTH,
} from '../wire/index.js';

/** A direction of the stream, by the roles of the original session (TC-28): from A to B, or from B to A. */
export type Direction = 'ab' | 'ba';

const KEY: { readonly [direction in Direction]: number } = { ab: CONST_KEY_A, ba: CONST_KEY_B };
/** sn[i] of what has none. */
const NOTHING = new Uint8Array();

abstract class Secret {
  readonly #bytes: Uint8Array;
  /** Made of the bytes when it is needed. */
  #key: CprfKey | undefined;
  #erased = false;

  protected constructor(bytes: Uint8Array, key?: CprfKey) {
    this.#bytes = bytes;
    this.#key = key;
  }

  /** Erases the secret; nothing can be derived from it afterwards. */
  erase(): void {
    this.#bytes.fill(0);
    this.#key?.erase();
    this.#erased = true;
  }

  /** The secret itself: for whoever must keep it. */
  protected get bytes(): Uint8Array {
    this.check();
    return this.#bytes;
  }

  /** For derivation. */
  protected get key(): CprfKey {
    this.check();
    this.#key ??= cprfKey(this.#bytes);
    return this.#key;
  }

  /** @throws ERR_TCPCRYPT_CLOSED once erased */
  protected check(): void {
    if (this.#erased) throw new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'secret erased' });
  }
}

/** What goes into the secret of a fresh session. */
export interface KeyExchangeResult {
  /** Host A's ENO option, then host B's (RFC 8547 §4.8). */
  readonly transcript: Uint8Array;
  readonly nonceA: Uint8Array;
  /** The complete messages as transmitted, ignored bytes included. */
  readonly init1: Uint8Array;
  readonly init2: Uint8Array;
  /** The result of the key agreement; erased here. */
  readonly es: Uint8Array;
}

/** ss[i] */
export class SessionSecret extends Secret {
  /** For all i, so that derivations of one stage cannot be taken for another's. */
  declare readonly stage: 'ss';

  /** ss[0] = PRK = Extract(N_A, eno_transcript | Init1 | Init2 | ES) */
  static ofKeyExchange({ transcript, nonceA, init1, init2, es }: KeyExchangeResult): SessionSecret {
    const prk = extract(nonceA, [transcript, init1, init2, es]);
    es.fill(0);
    return new SessionSecret(prk);
  }

  /** A secret that was kept for resumption, copied from `bytes`. */
  static restore(bytes: Uint8Array): SessionSecret {
    if (bytes.length !== SECRET_LENGTH)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'a session secret has 32 bytes' });
    return new SessionSecret(new Uint8Array(bytes));
  }

  /** A copy, for the cache of sessions to resume. The receiver erases it. */
  export(): Uint8Array {
    return new Uint8Array(this.bytes);
  }

  /** ss[i] = CPRF(ss[i-1], CONST_NEXTK, K_LEN) */
  next(): SessionSecret {
    return new SessionSecret(this.key.derive(CONST_NEXTK, NOTHING, SECRET_LENGTH));
  }

  /** resume[i] = CPRF(ss[i], CONST_RESUME, 18): A's half of 9 bytes, then B's, by original role (RFC 8548 §3.5). */
  resumptionId(): { readonly halfA: Uint8Array; readonly halfB: Uint8Array } {
    const id = this.key.derive(CONST_RESUME, NOTHING, 2 * RESUME_HALF_LENGTH);
    return { halfA: id.slice(0, RESUME_HALF_LENGTH), halfB: id.slice(RESUME_HALF_LENGTH) };
  }

  /** session_id[i] = TEP-byte | CPRF(ss[i], CONST_SESSID | sn[i], K_LEN). `tepByte` as B sent it, v bit included. */
  sessionId(tepByte: number, sn: Uint8Array): Uint8Array {
    const id = new Uint8Array(1 + SECRET_LENGTH);
    id[0] = tepByte;
    id.set(this.key.derive(CONST_SESSID, sn, SECRET_LENGTH), 1);
    return id;
  }

  /** mk[0] = CPRF(ss[i], CONST_REKEY | sn[i], K_LEN). sn is empty for a fresh session, else nonce_a | nonce_b. */
  masterKey(sn: Uint8Array): MasterKey {
    return new MasterKey(this.key.derive(CONST_REKEY, sn, SECRET_LENGTH));
  }
}

/** mk[j] */
export class MasterKey extends Secret {
  declare readonly stage: 'mk';

  /** Not for callers: {@link SessionSecret.masterKey}. */
  constructor(bytes: Uint8Array, key?: CprfKey) {
    super(bytes, key);
  }

  /** mk[j] = CPRF(mk[j-1], CONST_REKEY, K_LEN); no sn here. */
  next(): MasterKey {
    return new MasterKey(this.key.derive(CONST_REKEY, NOTHING, SECRET_LENGTH));
  }

  /** The same master key for the other direction, to be erased independently. */
  clone(): MasterKey {
    return new MasterKey(new Uint8Array(this.bytes), this.key.clone());
  }

  /**
   * k_ab[j] = CPRF(mk[j], CONST_KEY_A, ae_key_len + ae_nonce_len)
   * k_ba[j] = CPRF(mk[j], CONST_KEY_B, ae_key_len + ae_nonce_len)
   */
  trafficKey(direction: Direction, cipher: AeadId): TrafficKey {
    const { keyLength, nonceLength } = AEADS[cipher];
    const bytes = this.key.derive(KEY[direction], NOTHING, keyLength + nonceLength);
    const trafficKey = new TrafficKey(bytes.slice(0, keyLength), bytes.slice(keyLength), cipher);
    bytes.fill(0);
    return trafficKey;
  }
}

/** k_ab[j] or k_ba[j]: the AEAD key, then NR (RFC 8548 §3.6). */
export class TrafficKey extends Secret {
  declare readonly stage: 'k';
  readonly cipher: AeadId;
  readonly #nr: Uint8Array;

  /** Not for callers: {@link MasterKey.trafficKey}. */
  constructor(key: Uint8Array, nr: Uint8Array, cipher: AeadId) {
    super(key);
    this.#nr = nr;
    this.cipher = cipher;
  }

  override erase(): void {
    super.erase();
    this.#nr.fill(0);
  }

  /** NR, which every nonce is made of. Erased with this. */
  get nr(): Uint8Array {
    this.check();
    return this.#nr;
  }

  /** K, ready for use. Erased with this, or before. */
  aead(factory: AeadFactory): AeadKey {
    return factory(AEADS[this.cipher].name, this.bytes);
  }
}
