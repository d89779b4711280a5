import type { AeadFactory, KeyPair } from '../crypto/index.js';
import { TcpcryptError } from '../errors.js';
import { type AeadId, isAeadId, TEPS, type TepId } from '../wire/index.js';
import type { Negotiated, NegotiatedResumption } from './negotiation.js';
import type { PlaintextRoom } from './receiver.js';
import type { ResumableSession } from './resumption.js';
import { MAX_FRAME_DATA } from './tuning.js';

/** Options of {@link Session}; only `negotiated` has no default. */
export interface SessionOptions {
  readonly negotiated: Negotiated;
  /** Role A: offered in Init1; role B: accepted, most preferred first (TC-13). 1 to 255 of them. */
  readonly ciphers?: readonly AeadId[];
  /** Source of N_A or N_B; default: OpenSSL's generator. */
  readonly random?: (size: number) => Uint8Array;
  /**
   * Gives a key pair of the negotiated TEP when it is needed: host A for Init1, at once; host B when Init1 has come. It is not
   * the session's to erase. Default: a fresh one, which is erased after use (TC-8).
   */
  readonly keyPair?: (() => KeyPair) | undefined;
  /** For `negotiated.kind` 'resume', and only then: what was kept. `secret` is copied; erase the original. */
  readonly resumption?: ResumableSession | undefined;
  /** Keep what the next session of the chain needs, for `takeResumable()` (TC-29). Default: false. */
  readonly keepResumable?: boolean;
  /** Most application data in one frame, 1 to 65518. */
  readonly maxFrameData?: number;
  /** Bytes sent under one key before the sender rekeys by itself, below 2^53. */
  readonly rekeyAfterBytes?: number | undefined;
  /**
   * Memory for the data of frames that come together, of which the data events are views. Default: new memory each time.
   */
  readonly plaintextRoom?: PlaintextRoom | undefined;
  /** Most of them that share a piece of memory, unless a frame has more; default 120,000. Infinity: it is asked for once in a call of handleData. */
  readonly plaintextAtOnce?: number | undefined;
  /** Default: the fastest that this process has. */
  readonly aead?: AeadFactory;
}

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function checkOptions({ ciphers, maxFrameData, rekeyAfterBytes }: SessionOptions): void {
  if (ciphers !== undefined && (ciphers.length < 1 || ciphers.length > 255 || !ciphers.every(isAeadId)))
    reject('ciphers: 1 to 255 identifiers of AEAD algorithms');
  if (
    maxFrameData !== undefined &&
    !(Number.isInteger(maxFrameData) && maxFrameData >= 1 && maxFrameData <= MAX_FRAME_DATA)
  )
    reject(`maxFrameData: 1 to ${MAX_FRAME_DATA}`);
  if (rekeyAfterBytes !== undefined && !(rekeyAfterBytes >= 1 && rekeyAfterBytes <= Number.MAX_SAFE_INTEGER))
    reject('rekeyAfterBytes: 1 to 2^53 - 1');
}

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function checkKeyPair({ curve }: KeyPair, tep: TepId): void {
  if (curve !== TEPS[tep].curve) reject('keyPair: of another TEP');
}

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function checkResumption(
  { tep }: NegotiatedResumption,
  kept: ResumableSession | undefined,
): ResumableSession {
  if (kept === undefined || kept.tep !== tep) reject('resumption: of the negotiated TEP, and required');
  return kept;
}

function reject(detail: string): never {
  throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail });
}
