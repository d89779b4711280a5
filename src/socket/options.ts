/** What a connection may be told about encryption, with its defaults; shared by library and daemon. */
import { type Authentication, checkAuthentication, demandsProof } from '../auth/authenticate.js';
import { TcpcryptError } from '../errors.js';
import {
  type AeadId,
  DEFAULT_CIPHERS,
  DEFAULT_TEPS,
  isAeadId,
  isTepId,
  MAX_FRAME_DATA,
  type TepId,
} from '../session/index.js';
import { defaultSessionCache, SessionCache } from './session-cache.js';
import { KEY_LIFETIME, MAX_KEY_LIFETIME, SharedKeyPairs } from './shared-key-pairs.js';

/**
 * `opportunistic`: encrypt when the peer can, otherwise go on as plain TCP.
 * `required`: refuse a connection that cannot be encrypted. Either way there is no way back to plaintext once
 * ENO has succeeded.
 */
export type Mode = 'opportunistic' | 'required';

/** What a connection, or a server, may be told about encryption; each has a default. */
export interface EncryptionOptions {
  readonly mode?: Mode;
  /** TEP identifiers (RFC 8548 §7), most preferred first; the order matters in role B only. */
  readonly teps?: readonly TepId[];
  /** AEAD identifiers (RFC 8548 §7), most preferred first; the order matters in role B only. */
  readonly ciphers?: readonly AeadId[];
  /** Milliseconds for the key exchange, counted from the end of the TCP handshake. */
  readonly handshakeTimeout?: number;
  /**
   * Servers: milliseconds for which all connections use one key pair, at most 120,000; default 1000. Forward secrecy is as
   * fine as this time. 0: each connection has a pair of its own, and a key exchange costs the server twice as much.
   * Connections that this end opens always have one of their own: it would tell that they are of one client.
   */
  readonly keyLifetime?: number;
  /** How many SYN segments carry the ENO option before it is left out, for paths that drop unknown options. */
  readonly synTries?: number;
  /**
   * Resumption of earlier sessions (RFC 8548 §3.5): false for none, a cache of one's own, or more exactly. Default true:
   * with a cache that all connections of the process share.
   */
  readonly resumption?: boolean | SessionCache | ResumptionOptions;
  /**
   * Connections that this end opens: 'B' takes role B, for a simultaneous open in which the other end keeps 'A', the default
   * (the b bit, RFC 8547 §4.3). Towards a listener such a connection is plain.
   */
  readonly role?: 'A' | 'B';
  /** The application knows of encryption (the a bit, RFC 8547 §4.2). Default: whether there is `auth`. */
  readonly aware?: boolean;
  /** Encrypt only if the peer's application is aware as well; otherwise the connection is plain, or refused. */
  readonly mandatoryAware?: boolean;
  /** When to move to new keys by ourselves; the peer's wishes are always followed. */
  readonly rekey?: RekeyOptions;
  /**
   * Who we are, and who the peer must be: proved before a byte of the application is sent or delivered, on every
   * connection, also on resumed ones (docs/authentication.md). Where a proof is demanded, the mode is `required`.
   */
  readonly auth?: Authentication;
}

/** RFC 8548 §3.8, §3.9. */
export interface RekeyOptions {
  /** So many bytes of the TCP stream are sent under one key at most; default 2^36. */
  readonly afterBytes?: number;
  /** Milliseconds after which a key that is in use makes way; default: never. */
  readonly afterTime?: number;
  /**
   * Milliseconds of silence after which the peer is asked for a sign of life; after as many again without one the
   * connection is reset: ERR_TCPCRYPT_PEER_SILENT. Unlike TCP's own keep-alive nobody else can answer, and a peer whose
   * application does not read does not answer either. Default: never.
   */
  readonly keepAlive?: number;
}

/** Resumption more exactly (RFC 8548 §3.5). */
export interface ResumptionOptions {
  readonly cache?: SessionCache;
  /** False: always a fresh key exchange. */
  readonly resume?: boolean;
  /** False: later connections cannot resume this one. */
  readonly keep?: boolean;
}

export interface Resumption {
  readonly cache: SessionCache;
  readonly resume: boolean;
  readonly keep: boolean;
}

export interface Encryption {
  readonly mode: Mode;
  readonly teps: readonly TepId[];
  readonly ciphers: readonly AeadId[];
  readonly handshakeTimeout: number;
  readonly synTries: number;
  /** Of connections that this end accepts. Undefined: a key pair for each connection. */
  readonly keyPairs: SharedKeyPairs | undefined;
  /** Take role B in a simultaneous open (RFC 8547 §4.3). */
  readonly roleB: boolean;
  readonly resumption: Resumption;
  readonly aware: boolean;
  readonly mandatoryAware: boolean;
  readonly rekey: RekeyOptions;
  readonly auth: Authentication | undefined;
}

/** Tuned by us, not by the RFCs. */
export const HANDSHAKE_TIMEOUT = 20_000;
export const SYN_TRIES = 2;
/** Milliseconds until the next address of a name is tried as well; RFC 8305 §5 recommends it. */
export const ATTEMPT_DELAY = 250;
/** Data are encrypted as fast as the operating system takes them over, in portions of this size. */
export const PORTION = 4 * MAX_FRAME_DATA;

/** Fills in the defaults, for connections that this end opens. @throws ERR_TCPCRYPT_ARGUMENT */
export function encryption(options: EncryptionOptions): Encryption {
  const { auth, mode: wish = 'opportunistic' } = options;
  check(wish === 'opportunistic' || wish === 'required', 'mode', wish);
  if (auth !== undefined) checkAuthentication(auth);
  const mode = auth !== undefined && demandsProof(auth) ? 'required' : wish;
  const teps = options.teps ?? DEFAULT_TEPS;
  check(teps === DEFAULT_TEPS || isSet(teps, isTepId), 'teps', teps);
  const ciphers = options.ciphers ?? DEFAULT_CIPHERS;
  check(ciphers === DEFAULT_CIPHERS || isSet(ciphers, isAeadId), 'ciphers', ciphers);
  const handshakeTimeout = options.handshakeTimeout ?? HANDSHAKE_TIMEOUT;
  check(isInteger(handshakeTimeout, 1, 2 ** 31 - 1), 'handshakeTimeout', handshakeTimeout);
  const synTries = options.synTries ?? SYN_TRIES;
  check(isInteger(synTries, 1, 255), 'synTries', synTries);
  const { keyLifetime = KEY_LIFETIME, role = 'A' } = options;
  check(isInteger(keyLifetime, 0, MAX_KEY_LIFETIME), 'keyLifetime', keyLifetime);
  check(role === 'A' || role === 'B', 'role', role);
  const { aware = auth !== undefined, mandatoryAware = false, rekey = {} } = options;
  check(
    auth === undefined || aware || auth.agreed === 'by-protocol',
    'aware: false, and auth is agreed by the aware bit',
  );
  const { afterBytes = 1, afterTime = 1, keepAlive = 1 } = rekey;
  check(isInteger(afterBytes, 1, Number.MAX_SAFE_INTEGER), 'rekey.afterBytes', afterBytes);
  check(isInteger(afterTime, 1, 2 ** 31 - 1), 'rekey.afterTime', afterTime);
  check(isInteger(keepAlive, 1, 2 ** 31 - 1), 'rekey.keepAlive', keepAlive);
  const resumption = resumptionOf(options.resumption ?? true);
  return {
    mode,
    teps,
    ciphers,
    handshakeTimeout,
    synTries,
    keyPairs: undefined,
    roleB: role === 'B',
    resumption,
    aware,
    mandatoryAware,
    rekey,
    auth,
  };
}

/** The same for connections that this end accepts; all that have the result share key pairs. */
export function encryptionOfListener(options: EncryptionOptions): Encryption {
  const { keyLifetime = KEY_LIFETIME } = options;
  const common = encryption(options);
  return keyLifetime === 0 ? common : { ...common, keyPairs: new SharedKeyPairs(keyLifetime) };
}

function resumptionOf(wanted: boolean | SessionCache | ResumptionOptions): Resumption {
  if (typeof wanted === 'boolean') return { cache: defaultSessionCache, resume: wanted, keep: wanted };
  if (wanted instanceof SessionCache) return { cache: wanted, resume: true, keep: true };
  check(typeof wanted === 'object' && wanted !== null, 'resumption', wanted);
  const { cache = defaultSessionCache, resume = true, keep = true } = wanted;
  check(cache instanceof SessionCache, 'resumption.cache: a SessionCache');
  return { cache, resume, keep };
}

/** `value` is what is wrong with the option `detail`. */
export function check(condition: boolean, detail: string, ...value: unknown[]): asserts condition {
  if (condition) return;
  throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: [detail, ...value.map(String)].join(': ') });
}

const isInteger = (value: number, min: number, max: number): boolean =>
  Number.isInteger(value) && value >= min && value <= max;

const isSet = (values: readonly number[], known: (value: number) => boolean): boolean =>
  values.length > 0 && values.every((value, index) => known(value) && values.indexOf(value) === index);
