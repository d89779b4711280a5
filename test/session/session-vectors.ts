/** The rows of sessions.json (test/vectors/README.md). */
import type { AeadId, TepId } from '#src/wire/index.js';
import { vectors } from '../support/vectors.js';

export interface FrameVector {
  readonly offset: number;
  readonly generation: number;
  readonly rekey: boolean;
  readonly fin: boolean;
  readonly control: number;
  readonly clen: number;
  readonly aad: string;
  readonly nonce: string;
  readonly flags: number;
  readonly urgent: number | null;
  readonly data: string;
  readonly plaintext: string;
  readonly frame: string;
}

export interface TrafficKeyVector {
  readonly key: string;
  readonly nr: string;
}

export interface ConnectionVector {
  readonly sn: string;
  readonly session_id: string;
  readonly mk: readonly string[];
  readonly k_ab: readonly TrafficKeyVector[];
  readonly k_ba: readonly TrafficKeyVector[];
  readonly frames_ab: readonly FrameVector[];
  readonly frames_ba: readonly FrameVector[];
}

export interface ResumedVector extends ConnectionVector {
  readonly index: number;
  readonly nonce_a: string;
  readonly nonce_b: string;
  readonly tep_byte: number;
  readonly active_opener_original_role: 'A' | 'B';
  readonly syn_option: string;
  readonly synack_option: string;
}

interface EndVector {
  readonly private: string;
  readonly public: string;
  readonly nonce: string;
  readonly ignored: string;
}

export interface SessionVector {
  readonly name: string;
  readonly tep: TepId;
  readonly aead: AeadId;
  readonly transcript: string;
  readonly a: EndVector & { readonly ciphers: readonly AeadId[] };
  readonly b: EndVector;
  readonly init1: string;
  readonly init2: string;
  readonly es: string;
  readonly prk: string;
  readonly ss: readonly string[];
  readonly resume: readonly string[];
  readonly fresh: ConnectionVector & {
    readonly receive_only: { readonly frame_ab: FrameVector; readonly frame_ba: FrameVector };
  };
  readonly resumed: readonly ResumedVector[];
}

export const sessionVectors = (): readonly SessionVector[] => vectors<SessionVector>('sessions');
