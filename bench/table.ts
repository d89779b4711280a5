/** Figures of all rounds to medians, medians to a table. */
import type { Measurement } from './contestant.js';

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** One figure that the table shows. */
export interface Column {
  readonly key: string;
  readonly title: string;
  readonly digits: number;
  readonly of: (measurement: Measurement, amount: number) => number;
}

const GB = 1e9;

export const COLUMNS: {
  readonly [work in
    | 'bulk'
    | 'ping-pong'
    | 'connections'
    | 'authenticated'
    | 'first byte'
    | 'idle']: readonly Column[];
} = {
  bulk: [
    { key: 'rate', title: 'MB/s', digits: 0, of: ({ seconds }, bytes) => bytes / 1e6 / seconds },
    {
      key: 'client',
      title: 'client s/GB',
      digits: 2,
      of: ({ clientCpu }, bytes) => (clientCpu * GB) / bytes,
    },
    {
      key: 'server',
      title: 'server s/GB',
      digits: 2,
      of: ({ serverCpu }, bytes) => (serverCpu * GB) / bytes,
    },
  ],
  'ping-pong': [
    { key: 'p50', title: 'p50 µs', digits: 1, of: ({ samples = [] }) => quantile(samples, 0.5) },
    { key: 'p99', title: 'p99 µs', digits: 1, of: ({ samples = [] }) => quantile(samples, 0.99) },
    { key: 'client', title: 'client CPU µs', digits: 1, of: ({ clientCpu }, n) => (clientCpu * 1e6) / n },
    { key: 'server', title: 'server CPU µs', digits: 1, of: ({ serverCpu }, n) => (serverCpu * 1e6) / n },
  ],
  connections: [
    { key: 'rate', title: 'per second', digits: 0, of: ({ seconds }, n) => n / seconds },
    { key: 'client', title: 'client CPU µs', digits: 0, of: ({ clientCpu }, n) => (clientCpu * 1e6) / n },
    { key: 'server', title: 'server CPU µs', digits: 0, of: ({ serverCpu }, n) => (serverCpu * 1e6) / n },
  ],
  authenticated: [
    { key: 'rate', title: 'per second', digits: 0, of: ({ seconds }, n) => n / seconds },
    { key: 'client', title: 'client CPU µs', digits: 0, of: ({ clientCpu }, n) => (clientCpu * 1e6) / n },
    { key: 'server', title: 'server CPU µs', digits: 0, of: ({ serverCpu }, n) => (serverCpu * 1e6) / n },
    {
      key: 'batch',
      title: 'connections per signature',
      digits: 1,
      of: ({ signatures }, n) => (signatures === 0 ? Number.NaN : n / signatures),
    },
  ],
  'first byte': [
    { key: 'p50', title: 'p50 µs', digits: 0, of: ({ samples = [] }) => quantile(samples, 0.5) },
    { key: 'p99', title: 'p99 µs', digits: 0, of: ({ samples = [] }) => quantile(samples, 0.99) },
  ],
  idle: [
    { key: 'client', title: 'client KB', digits: 1, of: ({ clientMemory }, n) => clientMemory / n },
    { key: 'server', title: 'server KB', digits: 1, of: ({ serverMemory }, n) => serverMemory / n },
  ],
};

/** One round's figures by column; undefined where the peer did not take part, or the round does not count. */
export type Round = Readonly<Record<string, number>> | undefined;

export interface WorkResult {
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly { readonly peer: string; readonly rounds: readonly Round[] }[];
}

/**
 * Medians; in brackets those of the ratios to the first row in the same round. A machine that is shared can be twice as
 * slow for a minute: that is in both, so the ratios of medians would say less.
 */
export function markdown({ title, columns, rows }: WorkResult): string {
  const first = rows[0]?.rounds ?? [];
  const of = (rounds: readonly Round[], figure: (round: NonNullable<Round>, i: number) => number): number =>
    median(
      rounds.flatMap((round, i) => (round === undefined ? [] : [figure(round, i)])).filter(Number.isFinite),
    );
  const cells = rows.map(({ peer, rounds }, row) => [
    peer,
    ...columns.map(({ key, digits }) => {
      const value = of(rounds, (round) => round[key] ?? Number.NaN);
      if (Number.isNaN(value)) return 'none';
      const ratio = of(rounds, (round, i) => (round[key] ?? Number.NaN) / (first[i]?.[key] ?? Number.NaN));
      return `${value.toFixed(digits)}${row === 0 || Number.isNaN(ratio) ? '' : ` (${ratio.toFixed(2)})`}`;
    }),
  ]);
  return table([[title, ...columns.map(({ title }) => title)], ...cells]);
}

/** The first line is the head. */
export function table(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]?.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0))) ?? [];
  const line = (words: readonly string[]) =>
    `| ${words.map((word, i) => word.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = lines;
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...body.map(line)].join(
    '\n',
  );
}
