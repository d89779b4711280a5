/** What the client program is told to do, and what it answers. */
export type Task =
  | {
      readonly work: 'bulk';
      readonly direction: 'up' | 'down';
      readonly streams: number;
      readonly bytes: number;
    }
  | { readonly work: 'ping-pong'; readonly count: number }
  | { readonly work: 'connections'; readonly count: number; readonly concurrency: number }
  | { readonly work: 'idle'; readonly count: number }
  | { readonly work: 'hang up' };

export interface Result {
  readonly seconds: number;
  /** Microseconds of each. */
  readonly samples?: readonly number[];
  readonly error?: string;
}
