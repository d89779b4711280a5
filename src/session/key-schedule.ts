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
/** A value on its way to where it belongs; erased after each use, unless it is public. */
const scratch = new Uint8Array(SECRET_LENGTH);
/** A key, then NR. */
const keyAndNonce = new Uint8Array(64);

/** A stage: what HMAC makes of the secret is kept, and the secret itself nowhere. */
abstract class Secret {
  readonly #key: CprfKey;
  #erased = false;

  protected constructor(key: CprfKey) {
    this.#key = key;
  }

  /** Erases the secret; nothing can be derived from it afterwards. */
  erase(): void {
    this.#key.erase();
    this.#erased = true;
  }

  /** For derivation. @throws ERR_TCPCRYPT_CLOSED once erased */
  protected get key(): CprfKey {
    if (this.#erased) throw erased();
    return this.#key;
  }

  /** CPRF(this, constant | sn, K_LEN), made a key as well. */
  protected derived(constant: number, sn: Uint8Array): CprfKey {
    this.key.derive(constant, sn, scratch, SECRET_LENGTH);
    const key = cprfKey(scratch);
    scratch.fill(0);
    return key;
  }
}

const erased = (): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_CLOSED', { detail: 'secret erased' });

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
    const key = cprfKey(prk);
    prk.fill(0);
    return new SessionSecret(key);
  }

  /** A secret that was kept for resumption; `bytes` are still the caller's to erase. */
  static restore(bytes: Uint8Array): SessionSecret {
    if (bytes.length !== SECRET_LENGTH)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: 'a session secret has 32 bytes' });
    return new SessionSecret(cprfKey(bytes));
  }

  /** ss[i] = CPRF(ss[i-1], CONST_NEXTK, K_LEN) */
  next(): SessionSecret {
    return new SessionSecret(this.derived(CONST_NEXTK, NOTHING));
  }

  /** The same as bytes, for the cache of sessions to resume. The receiver erases it. */
  exportNext(): Uint8Array {
    const next = new Uint8Array(SECRET_LENGTH);
    this.key.derive(CONST_NEXTK, NOTHING, next, SECRET_LENGTH);
    return next;
  }

  /** resume[i] = CPRF(ss[i], CONST_RESUME, 18): A's half of 9 bytes, then B's, by original role (RFC 8548 §3.5). */
  resumptionId(): { readonly halfA: Uint8Array; readonly halfB: Uint8Array } {
    this.key.derive(CONST_RESUME, NOTHING, scratch, 2 * RESUME_HALF_LENGTH);
    return {
      halfA: scratch.slice(0, RESUME_HALF_LENGTH),
      halfB: scratch.slice(RESUME_HALF_LENGTH, 2 * RESUME_HALF_LENGTH),
    };
  }

  /** session_id[i] = TEP-byte | CPRF(ss[i], CONST_SESSID | sn[i], K_LEN). `tepByte` as B sent it, v bit included. */
  sessionId(tepByte: number, sn: Uint8Array): Uint8Array {
    this.key.derive(CONST_SESSID, sn, scratch, SECRET_LENGTH);
    const id = new Uint8Array(1 + SECRET_LENGTH);
    id[0] = tepByte;
    id.set(scratch, 1);
    return id;
  }

  /** mk[0] = CPRF(ss[i], CONST_REKEY | sn[i], K_LEN). sn is empty for a fresh session, else nonce_a | nonce_b. */
  masterKey(sn: Uint8Array): MasterKey {
    return new MasterKey(this.derived(CONST_REKEY, sn));
  }
}

/** mk[j] */
export class MasterKey extends Secret {
  declare readonly stage: 'mk';

  /** Not for callers: {@link SessionSecret.masterKey}. */
  constructor(key: CprfKey) {
    super(key);
  }

  /** mk[j] = CPRF(mk[j-1], CONST_REKEY, K_LEN); no sn here. */
  next(): MasterKey {
    return new MasterKey(this.derived(CONST_REKEY, NOTHING));
  }

  /** The same master key for the other direction, to be erased independently. */
  clone(): MasterKey {
    return new MasterKey(this.key.clone());
  }

  /**
   * k_ab[j] = CPRF(mk[j], CONST_KEY_A, ae_key_len + ae_nonce_len)
   * k_ba[j] = CPRF(mk[j], CONST_KEY_B, ae_key_len + ae_nonce_len)
   */
  trafficKey(direction: Direction, cipher: AeadId): TrafficKey {
    const { keyLength, nonceLength } = AEADS[cipher];
    this.key.derive(KEY[direction], NOTHING, keyAndNonce, keyLength + nonceLength);
    const key = keyAndNonce.slice(0, keyLength);
    const nr = keyAndNonce.slice(keyLength, keyLength + nonceLength);
    keyAndNonce.fill(0);
    return new TrafficKey(key, nr, cipher);
  }
}

/** k_ab[j] or k_ba[j]: the AEAD key, then NR (RFC 8548 §3.6). */
export class TrafficKey {
  readonly cipher: AeadId;
  readonly #key: Uint8Array;
  readonly #nr: Uint8Array;
  #erased = false;

  /** Not for callers: {@link MasterKey.trafficKey}. */
  constructor(key: Uint8Array, nr: Uint8Array, cipher: AeadId) {
    this.#key = key;
    this.#nr = nr;
    this.cipher = cipher;
  }

  erase(): void {
    this.#key.fill(0);
    this.#nr.fill(0);
    this.#erased = true;
  }

  /** NR, which every nonce is made of. Erased with this. @throws ERR_TCPCRYPT_CLOSED once erased */
  get nr(): Uint8Array {
    if (this.#erased) throw erased();
    return this.#nr;
  }

  /** K, ready for use. Erased with this, or before. @throws ERR_TCPCRYPT_CLOSED once erased */
  aead(factory: AeadFactory): AeadKey {
    if (this.#erased) throw erased();
    return factory(AEADS[this.cipher].name, this.#key);
  }
}
