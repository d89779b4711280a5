/**
 * `npm run bench`: every way to carry a byte stream between two hosts, side by side. Needs root: each contestant has
 * two network namespaces of its own. Rounds are interleaved, so that a slow minute of the machine hits all alike.
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { Lab } from '#src/lab/lab.js';
import { Contestant, type Measurement } from './contestant.js';
import { readOptions, refuse } from './options.js';
import type { Peer } from './peer.js';
import { PEERS } from './peers/index.js';
import { signingTable } from './signing.js';
import { leaveAsIs, steadyEnvironment } from './steady.js';
import { COLUMNS, markdown, type Round, type WorkResult } from './table.js';
import type { Task } from './work.js';

interface Work {
  readonly name: string;
  readonly title: string;
  readonly for: Peer['works'];
  readonly columns: keyof typeof COLUMNS;
  readonly amount: number;
  readonly task: Task;
  /** Smaller, before the first round: compilers and caches. The connections of `--warm-up` come before it. */
  readonly warmUp: Task;
}

function works(bytes: number, scale: number): Work[] {
  const bulk = (streams: number, direction: 'up' | 'down'): Work => {
    const task = { work: 'bulk', direction, streams } as const;
    return {
      name: `bulk-${streams}-${direction}`,
      title: `bulk, ${streams === 1 ? 'one stream' : `${streams} streams`}, ${direction}`,
      for: 'all',
      columns: 'bulk',
      amount: bytes,
      task: { ...task, bytes },
      warmUp: { ...task, bytes: 2 * bytes },
    };
  };
  const counted = (
    name: string,
    title: string,
    columns: Work['columns'],
    count: number,
    task: (count: number) => Task,
    works: Peer['works'] = 'connections',
  ): Work => {
    const amount = Math.ceil(count * scale);
    return {
      name,
      title,
      for: works,
      columns,
      amount,
      task: task(amount),
      warmUp: task(Math.ceil(amount / 4)),
    };
  };
  const connections = (concurrency: number) => (count: number) =>
    ({ work: 'connections', count, concurrency }) as const;
  return [
    bulk(1, 'up'),
    bulk(1, 'down'),
    bulk(8, 'up'),
    bulk(8, 'down'),
    counted(
      'ping-pong',
      'ping-pong, 64 bytes',
      'ping-pong',
      10_000,
      (count) => ({ work: 'ping-pong', count }),
      'all',
    ),
    counted('connections', 'new connections, 8 at a time', 'connections', 2000, connections(8)),
    counted(
      'authenticated',
      'new authenticated connections, 512 at a time',
      'authenticated',
      600,
      connections(512),
      'authenticated',
    ),
    counted('first-byte', 'connect to first byte', 'first byte', 500, connections(1)),
    counted('idle', 'memory of an idle connection', 'idle', 2000, (count) => ({ work: 'idle', count })),
  ];
}

const contains = (name: string, words: string): boolean =>
  words.split(',').some((word) => name.toLowerCase().includes(word.trim().toLowerCase()));
const say = (text: string): void => void process.stderr.write(text);

async function main(): Promise<void> {
  const names = works(1, 1)
    .map(({ name }) => name)
    .join(', ');
  const options = readOptions(names);
  if (options === undefined) return;
  const { quick, rounds, bytes, warmUp, family, heap, asIs, json } = options;
  const chosen = works(bytes, quick ? 0.2 : 1).filter(
    (work) => contains(work.name, options.works) && (work.for !== 'authenticated' || options.works !== ''),
  );
  if (chosen.length === 0) refuse(`--works: there are ${names}`);
  if (!PEERS.some(({ name }) => contains(name, options.peers)))
    refuse(`--peers: there are ${PEERS.map(({ name }) => name).join('; ')}`);
  if (asIs) leaveAsIs();
  Object.assign(process.env, steadyEnvironment());
  const lab = await Lab.create({ name: 'bench' });
  const contestants: Contestant[] = [];
  let interrupted = false;
  const interrupt = (): void => {
    interrupted = true;
    say('\nstopping …\n');
    for (const contestant of contestants) void contestant.stop().catch(() => {});
  };
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  try {
    for (const [i, peer] of PEERS.entries()) {
      if (i > 0 && !contains(peer.name, options.peers)) continue;
      if (!chosen.some((work) => takesPart(peer, work))) continue;
      if (interrupted) throw new Error('interrupted');
      const missing = peer.missing?.();
      if (missing === undefined) contestants.push(await Contestant.start(lab, peer, i, { family, heap }));
      else say(`without ${peer.name}: ${missing}\n`);
    }
    const figures = await play(contestants, chosen, { rounds, warmUp, interrupted: () => interrupted });
    const results = chosen.map((work) => resultOf(work, contestants, figures));
    process.stdout.write(`${results.map(markdown).join('\n\n')}\n`);
    if (chosen.some((work) => work.for === 'authenticated'))
      process.stdout.write(`\n${await signingTable(lab)}\n`);
    for (const complaint of complaints) process.stdout.write(`\n${complaint}\n`);
    if (json !== undefined) {
      const machine = { node: process.version, kernel: release(), cores: cpus().length, family };
      writeFileSync(
        json,
        `${JSON.stringify({ machine, rounds, bytes, warmUp, heap, asIs, results, complaints, figures: [...figures] }, null, 1)}\n`,
      );
    }
  } catch (error) {
    // A terminal sends the signal to all at once: a program of ours may have ended of it before we hear of it.
    await new Promise((heard) => setTimeout(heard, 100));
    if (!interrupted) throw error;
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', interrupt);
    for (const contestant of contestants)
      await contestant.stop().catch((error: Error) => {
        if (!interrupted) throw error;
      });
    await lab.destroy();
  }
}

/** Figures that were left out, and why. */
const complaints: string[] = [];

type Figures = Map<string, Round[]>;
const figuresKey = (peer: Peer, work: Work): string => `${peer.name}: ${work.name}`;
const takesPart = ({ works, compareAuthenticated = false }: Peer, work: Work): boolean => {
  if (work.for === 'authenticated') return works === 'authenticated' || compareAuthenticated;
  if (works === 'receiving') return work.task.work === 'bulk' && work.task.direction === 'down';
  return works === 'all' || works === work.for;
};

/** The same work, as much of it as that peer is given. */
function shareOf({ share = 1 }: Peer, work: Work): Work {
  const of = (task: Task): Task =>
    task.work === 'connections' ? { ...task, count: Math.ceil(task.count * share) } : task;
  return { ...work, amount: Math.ceil(work.amount * share), task: of(work.task), warmUp: of(work.warmUp) };
}

async function play(
  contestants: readonly Contestant[],
  chosen: readonly Work[],
  { rounds, warmUp, interrupted }: { rounds: number; warmUp: number; interrupted: () => boolean },
): Promise<Figures> {
  const figures: Figures = new Map();
  const warm = new Set<Contestant>();
  // All rounds of a work, then the next: another one between them, or its garbage collection, would cool the processes.
  for (const whole of chosen) {
    for (let round = 1; round <= rounds; round++) {
      for (const contestant of contestants) {
        const { peer } = contestant;
        if (!takesPart(peer, whole)) continue;
        const work = shareOf(peer, whole);
        if (interrupted()) throw new Error('interrupted');
        say(`\r\x1b[K${work.title}: round ${round} of ${rounds}: ${peer.name}`);
        if (work.for === 'connections' && warmUp > 0 && !warm.has(contestant)) {
          warm.add(contestant);
          await contestant.perform({ work: 'connections', count: warmUp, concurrency: 8 });
        }
        if (round === 1) await contestant.perform(work.warmUp);
        if (work.columns === 'idle') await contestant.perform({ work: 'hang up' });
        const measurement = await contestant.perform(work.task);
        if (work.columns === 'idle') await contestant.perform({ work: 'hang up' });
        const complaint = await contestant.complaint();
        if (complaint !== undefined)
          complaints.push(`${peer.name}, ${work.title}, round ${round} does not count: ${complaint}`);
        const key = figuresKey(peer, work);
        const row = complaint === undefined ? columnsOf(work, measurement) : undefined;
        figures.set(key, [...(figures.get(key) ?? []), row]);
      }
    }
  }
  say('\r\x1b[K');
  return figures;
}

function columnsOf(work: Work, measurement: Measurement): { readonly [column: string]: number } {
  return Object.fromEntries(COLUMNS[work.columns].map(({ key, of }) => [key, of(measurement, work.amount)]));
}

function resultOf(work: Work, contestants: readonly Contestant[], figures: Figures): WorkResult {
  const columns = COLUMNS[work.columns];
  const rows = contestants
    .filter(({ peer }) => takesPart(peer, work))
    .map(({ peer }) => ({ peer: peer.name, rounds: figures.get(figuresKey(peer, work)) ?? [] }));
  return { title: work.title, columns, rows };
}

await main();
