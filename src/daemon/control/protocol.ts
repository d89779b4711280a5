/**
 * What is said on the daemon's control socket: one JSON value a line, UTF-8, the client first.
 *
 *     → {"command":"status"}
 *     ← {"result":{"state":"running",…}}
 *     → {"command":"connections"}
 *     ← {"item":{"connection":7,"direction":"outbound",…}}       a line for each
 *     ← {"result":{"count":1}}
 *     → {"command":"fly"}
 *     ← {"error":{"code":"ERR_TCPCRYPT_ARGUMENT","message":"…"}}
 *
 * A request has at most {@link REQUEST_LIMIT} bytes. Each is answered by any number of items and one result or error,
 * in the order of the requests.
 */
import type { PeerDescription } from '../../socket/describe.js';
import type { Direction } from '../connection-log.js';

/** Bytes of a request, with its line feed. */
export const REQUEST_LIMIT = 4096;
/** Bytes of one line of an answer. */
export const ANSWER_LIMIT = 1 << 20;

export const COMMANDS = ['status', 'connections', 'paths', 'flush-paths', 'reload'] as const;
export type CommandName = (typeof COMMANDS)[number];

export interface Request {
  readonly command: CommandName;
  /** Of 'flush-paths': only what concerns this address. */
  readonly address?: string;
}

export type Answer =
  | { readonly item: unknown }
  | { readonly result: unknown }
  | { readonly error: { readonly code: string; readonly message: string } };

export interface Status {
  /** 'degraded': it runs, but does not encrypt what it should; `problems` say why, and the remedy. */
  readonly state: 'running' | 'degraded' | 'stopping';
  readonly problems: readonly string[];
  readonly version: string;
  readonly pid: number;
  /** ISO 8601. */
  readonly since: string;
  readonly seconds: number;
  /** The file, or 'built-in'. */
  readonly policy: string;
  readonly connections: {
    readonly outbound: number;
    readonly inbound: number;
    readonly encrypted: number;
    readonly plain: number;
    /** The key exchange is going on. */
    readonly handshake: number;
  };
  readonly heldSyns: number;
  readonly rememberedDestinations: number;
  readonly bytes: Readonly<Record<Direction, { readonly received: number; readonly sent: number }>>;
  readonly memoryBytes: number;
  readonly openFiles: number | null;
  readonly counters: Readonly<Record<string, number>>;
  /** Why connections stayed plain, and why they failed: how often, by error code. */
  readonly fallbacks: Readonly<Record<string, number>>;
  readonly failures: Readonly<Record<string, number>>;
  /** SYNs that the policy's rules in the kernel have refused; without it, they cannot be asked now. */
  readonly refused?: Readonly<Record<string, number>>;
  /** Not taken, or given up: how often, by the limit that was reached. */
  readonly shed: Readonly<Record<string, number>>;
  /** With --workers: the processes that relay; `pid` is the one that watches over them. */
  readonly workers?: readonly WorkerStatus[];
}

export interface WorkerStatus {
  /** Its number, from 0. */
  readonly worker: number;
  readonly pid: number;
  readonly connections: number;
  readonly memoryBytes: number;
}

export interface ConnectionStatus {
  readonly connection: number;
  readonly direction: Direction;
  readonly local: string;
  readonly remote: string;
  /** What the kernel's lists of sockets (ss) call the local program's socket, where that differs. */
  readonly kernelRemote?: string;
  readonly state: 'handshake' | 'secure' | 'plain';
  readonly plainReason?: string;
  readonly tep?: string;
  readonly tepName?: string;
  readonly cipher?: string;
  readonly cipherName?: string;
  readonly resumed?: boolean;
  readonly sessionId?: string;
  /** Who the other host has proved to be. */
  readonly peer?: PeerDescription;
  readonly policy: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly seconds: number;
}
