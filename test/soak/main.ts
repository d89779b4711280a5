/** `npm run soak`: thousands of connections through two daemons that are restarted under them. Needs root. */
import { parseArgs } from 'node:util';
import { type SoakFigures, soak } from './soak.js';

const HELP = `npm run soak -- [options]
  --short N      short connections (20000)
  --long N       long ones, at the same time (200)
  --seconds N    how long the long ones last (60)
  --restarts N   of a daemon, or both; programs are killed twice as often (4)
  --ipv6         not IPv4
  --policy NAME  of both daemons: private-or-clear (the default), or private
  --workers N    of each daemon; the hosts have as many addresses, and workers are killed as well (1)
  --seed N       for sizes and plans
  --json         the figures as one object
Exits with 1 if a byte of a connection that ended in order was lost or altered, or if a daemon kept something; with
--policy private, also if anything that the programs said was on the wire between the hosts in plaintext.`;

const POLICIES = ['private-or-clear', 'private'] as const;

const { values: flags } = parseArgs({
  options: {
    short: { type: 'string', default: '20000' },
    long: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '60' },
    restarts: { type: 'string', default: '4' },
    ipv6: { type: 'boolean', default: false },
    policy: { type: 'string', default: 'private-or-clear' },
    workers: { type: 'string', default: '1' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

function text(figures: SoakFigures): string {
  const { connections, clean, killed, endings, bytes, encrypted, seconds, wire, daemons, violations } =
    figures;
  const lines = [
    `${connections} connections in ${seconds.toFixed(0)} s, ${encrypted} of them encrypted, ${(bytes / 1e6).toFixed(0)} MB`,
    `${clean} ended in order at both ends; of ${killed} a program was killed`,
    `as the clients saw it: ${Object.entries(endings)
      .sort(([, a], [, b]) => b - a)
      .map(([how, count]) => `${how} ${count}`)
      .join(', ')}`,
    ...daemons.map(
      ({ host, restarts, workersLost, descriptors, memory, left }) =>
        `daemon on ${host}: restarted ${restarts} times${workersLost === 0 ? '' : `, ${workersLost} workers replaced`}; descriptors ${descriptors.join(' → ')}; ` +
        `memory ${memory.before} → ${memory.after} MiB, at most ${memory.most}; left: ${JSON.stringify(left)}`,
    ),
    `on the wire: ${wire.segments} segments, ${wire.plaintext} of them in plaintext`,
    violations.length === 0
      ? 'no byte lost, none altered'
      : `${violations.length} VIOLATIONS:\n${violations.slice(0, 20).join('\n')}`,
  ];
  return `${lines.join('\n')}\n`;
}

const numbers = [flags.short, flags.long, flags.seconds, flags.restarts, flags.seed].map(Number);
const [short = 0, long = 0, seconds = 0, restarts = 0, seed = 0] = numbers;
const policy = POLICIES.find((name) => name === flags.policy);
const workers = [1, 2, 4, 8, 16].find((count) => count === Number(flags.workers));
if (flags.help || policy === undefined || workers === undefined || !numbers.every((number) => number >= 0)) {
  process.stdout.write(`${HELP}\n`);
  process.exitCode = flags.help ? 0 : 2;
} else {
  const onProgress = (done: number): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${short + long}`);
  };
  const figures = await soak({
    ...{ short, long, seconds, restarts, seed, policy, workers, onProgress },
    family: flags.ipv6 ? 6 : 4,
  });
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  process.stdout.write(flags.json ? `${JSON.stringify(figures)}\n` : `seed ${seed}\n${text(figures)}`);
  const kept = figures.daemons.some(
    ({ descriptors: [before, after], left }) =>
      after > before + 8 * workers || Object.values(left).some((count) => count > 0),
  );
  if (kept || figures.violations.length > 0) process.exitCode = 1;
}
