/** What the daemon's main process and its workers say to each other, by the channel of node:child_process. */
import type { Share } from '../../kernel/steering.js';
import type { Limits } from '../capacity.js';
import type { Numbers } from '../connection-log.js';
import type { ConnectionStatus } from '../control/protocol.js';
import type { WorkReport } from '../control/work-report.js';
import type { Negotiation } from '../engine.js';
import type { HostFileContents } from '../host-authentication.js';
import type { PathEntry } from '../path-memory.js';
import type { Policy } from '../policy/policy.js';

/** Descriptors of a worker: 0 to 2 as usual, 3 is the channel, then the maps (src/kernel/daemon-maps.ts), and a channel by which others come. */
export const FIRST_MAP = 4;
/** Connections that one message tells of. */
export const PAGE = 500;

/** The first message to a worker. */
export interface Assignment {
  readonly index: number;
  readonly count: number;
  readonly share: Share;
  readonly maps: number;
  readonly ipv6: boolean;
  readonly policy: Policy;
  readonly limits: Limits;
  readonly numbers: Numbers;
  readonly logLevel: string;
  readonly negotiation: Negotiation;
  /** Of host authentication: only root can read the files. */
  readonly files: HostFileContents;
}

/** What a worker is asked: parameter and answer. */
export interface Questions {
  readonly start: { readonly given: Assignment; readonly answer: null };
  readonly report: { readonly given: null; readonly answer: WorkReport };
  /** Connections with numbers above the given one, at most {@link PAGE}. */
  readonly connections: { readonly given: number; readonly answer: readonly ConnectionStatus[] };
  readonly paths: { readonly given: null; readonly answer: readonly PathEntry[] };
  readonly flush: { readonly given: string | null; readonly answer: number };
  readonly follow: { readonly given: Policy; readonly answer: null };
  readonly suspend: { readonly given: null; readonly answer: null };
  /** The maps of another kernel part have been sent. */
  readonly renew: { readonly given: null; readonly answer: null };
  readonly reset: { readonly given: null; readonly answer: null };
  readonly 'stop-taking': { readonly given: null; readonly answer: null };
  /** Given is the deadline. The answer is what there is to tell at the end; then the worker ends. */
  readonly finish: { readonly given: number; readonly answer: WorkReport };
}
export type QuestionName = keyof Questions;

export interface Question<Name extends QuestionName = QuestionName> {
  readonly id: number;
  readonly name: Name;
  readonly given: Questions[Name]['given'];
}

export type Reply =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: { readonly code: string; readonly message: string } };
