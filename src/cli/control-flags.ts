/** What the commands that ask a running daemon have in common. */
import type { Command } from 'commander';
import { defaultControlPath } from '../daemon/control/place.js';
import { parseWord } from './arguments.js';

export interface ControlFlags {
  readonly control?: string;
  readonly json?: boolean;
}

export const addControlFlags = (command: Command): Command =>
  command
    .option(
      '--control <path>',
      "the daemon's control socket (default: the one of this network namespace, /run/tcpcrypt/net-<inode>.sock)",
      parseWord,
    )
    .option('--json', 'print the result as JSON');

export const controlPath = ({ control }: ControlFlags): string => control ?? defaultControlPath();

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** "17 B", "4.2 MiB". */
export function size(bytes: number): string {
  const unit = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** unit;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "8 s", "3 min", "5 h", "12 d". */
export function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Columns as wide as they must be, two blanks between them. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
