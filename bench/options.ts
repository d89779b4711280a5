/** What `npm run bench` can be told. */
import { accessSync, constants } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';

export interface Options {
  readonly quick: boolean;
  readonly rounds: number;
  /** Of a bulk transfer. */
  readonly bytes: number;
  /** Connections. */
  readonly warmUp: number;
  /** Memory is left to V8 and malloc, with what chance brings. */
  readonly asIs: boolean;
  /** MB that the programs at both ends hold, as applications do. */
  readonly heap: number;
  /** Of the addresses: IPv4 or IPv6. */
  readonly family: 4 | 6;
  /** Words with commas; empty: all. */
  readonly peers: string;
  readonly works: string;
  /** The file for the figures of all rounds. */
  readonly json: string | undefined;
}

const help = (works: string): string => `npm run bench -- [options]
  --quick          a tenth of the bytes, a fifth of the rest, in some minutes; too little to publish
  --rounds N       medians over N rounds (3)
  --size MB        of a bulk transfer (1000)
  --warm-up N      connections before the first that count (10000, with --quick 500); compilers need some thousands
  --as-is          do not keep V8 and malloc from having several speeds, by chance, where much is received
  --heap MB        of objects that the programs at both ends hold, as applications do (0)
  --family 6       over IPv6 (4)
  --peers A,B      only peers whose name contains A or B; plain TCP is always there
  --works A,B      only (authenticated: only when asked for) ${works}
  --json FILE      the figures of all rounds
`;

/** Undefined when there is nothing to do but what has been done: help. Does not return from mistakes. */
export function readOptions(works: string): Options | undefined {
  const flags = parse();
  if (flags.help) {
    process.stdout.write(help(works));
    return undefined;
  }
  const { quick, peers, works: chosen, json } = flags;
  const family = flags.family === '4' ? 4 : flags.family === '6' ? 6 : refuse('--family: 4 or 6');
  if (json !== undefined) checkWritable(json);
  return {
    quick,
    rounds: whole('rounds', flags.rounds ?? '3', 1),
    bytes: whole('size', flags.size ?? (quick ? '100' : '1000'), 1) * 1e6,
    warmUp: whole('warm-up', flags['warm-up'] ?? (quick ? '500' : '10000'), 0),
    asIs: flags['as-is'],
    heap: whole('heap', flags.heap, 0, 1000),
    family,
    peers,
    works: chosen,
    json,
  };
}

/** Ends the program: it was told something that it cannot do. */
export function refuse(why: string): never {
  process.stderr.write(`bench: ${why}\nSee npm run bench -- --help\n`);
  process.exit(2);
}

function parse() {
  try {
    return parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        'warm-up': { type: 'string' },
        size: { type: 'string' },
        'as-is': { type: 'boolean', default: false },
        heap: { type: 'string', default: '0' },
        family: { type: 'string', default: '4' },
        peers: { type: 'string', default: '' },
        works: { type: 'string', default: '' },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function whole(name: string, text: string, least: number, most = 999_999_999): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) < least || Number(text) > most)
    refuse(`--${name}: a whole number from ${least} to ${most}`);
  return Number(text);
}

function checkWritable(file: string): void {
  try {
    accessSync(dirname(file), constants.W_OK);
  } catch (error) {
    refuse(`--json: ${(error as Error).message}`);
  }
}
