/**
 * npm run fuzz -- [--seconds N] [--seed S] [--patience N] [--no-save] [--tidy] [target…]
 *                                                          all targets, or these, one after the other
 * npm run fuzz -- --replay FILE target                     one input again, in this thread
 *
 * Inputs that make new code run, or something new happen, are kept in test/fuzz/corpus/TARGET. An input that breaks
 * a rule is made small and saved to build/fuzz, and the command that replays it is printed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { nameOf } from './fuzzer.js';
import { Shared } from './shared.js';
import { TARGETS, targetNamed } from './targets/index.js';
import type { Order, Report } from './worker.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CORPUS = join(ROOT, 'test/fuzz/corpus');
const FINDINGS = join(ROOT, 'build/fuzz');

/** Larger inputs find things, but are not worth keeping in a repository. */
const MAX_KEPT = 1024;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    'no-save': { type: 'boolean', default: false },
    tidy: { type: 'boolean', default: false },
    /** An input that takes more seconds does not end. */
    patience: { type: 'string', default: '20' },
    replay: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const terminal = process.stdout.isTTY === true;
const line = (text: string): void => {
  process.stdout.write(terminal ? `\r\x1b[2K${text}\n` : `${text}\n`);
};
const progress = (text: string): void => {
  if (terminal) process.stdout.write(`\r\x1b[2K${text}`.slice(0, process.stdout.columns + 5));
};

function usage(problem: string): never {
  process.stderr.write(`${problem}\n\ntargets:\n`);
  for (const { name, about } of TARGETS) process.stderr.write(`  ${name.padEnd(12)} ${about}\n`);
  process.exit(2);
}

function corpusOf(target: string): Map<string, Uint8Array> {
  const directory = join(CORPUS, target);
  if (!existsSync(directory)) return new Map();
  return new Map(
    readdirSync(directory)
      .sort()
      .map((name) => [join(directory, name), new Uint8Array(readFileSync(join(directory, name)))]),
  );
}

/** Prints what was found and how to see it again. */
function tell(target: string, input: Uint8Array, error: string): void {
  mkdirSync(FINDINGS, { recursive: true });
  const file = join(FINDINGS, `${target}-${nameOf(input)}`);
  writeFileSync(file, input);
  line(`${target}: FAILED with ${input.length} bytes`);
  line(error);
  line(`replay: npm run fuzz -- --replay ${relative(ROOT, file)} ${target}`);
}

type Outcome = 'done' | 'found';

/** Fuzzes one target in a thread of its own, which is stopped when it hangs. */
function fuzz(target: string, seed: number, milliseconds: number, shared: Shared): Promise<Outcome> {
  const save = !values['no-save'];
  const files = corpusOf(target);
  const order: Order = { target, seed, milliseconds, corpus: [...files.values()], shared: shared.buffer };
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: order });
  const started = performance.now();
  let kept = 0;

  return new Promise((resolve, reject) => {
    let outcome: Outcome = 'found';
    let count = shared.count;
    let since = performance.now();
    const watch = setInterval(() => {
      if (shared.count !== count) {
        count = shared.count;
        since = performance.now();
      }
      if (performance.now() - since < 1000 * Number(values.patience)) return;
      tell(target, shared.input, `it has not returned for ${values.patience} seconds`);
      void worker.terminate();
    }, 500);
    worker.on('message', (report: Report) => {
      switch (report.kind) {
        case 'loaded':
          if (values.tidy) tidy(files, report.useful);
          break;
        case 'kept':
          if (!save || report.input.length > MAX_KEPT) break;
          mkdirSync(join(CORPUS, target), { recursive: true });
          writeFileSync(join(CORPUS, target, nameOf(report.input)), report.input);
          kept += 1;
          break;
        case 'finding':
          tell(target, report.input, report.error);
          break;
        case 'progress':
        case 'done': {
          const seconds = (performance.now() - started) / 1000;
          const rate = Math.round(report.runs / seconds);
          const text = `${target.padEnd(12)} ${seconds.toFixed(0)} s, ${report.runs} inputs (${rate}/s), corpus ${report.corpus}, ${report.words} outcomes`;
          if (report.kind === 'progress') progress(text);
          else {
            outcome = 'done';
            line(`${text}${kept > 0 ? `, ${kept} new inputs kept` : ''}`);
          }
          break;
        }
      }
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      clearInterval(watch);
      resolve(outcome);
    });
  });
}

/** Removes kept inputs that show nothing that a smaller one does not. */
function tidy(files: ReadonlyMap<string, Uint8Array>, useful: readonly Uint8Array[]): void {
  const names = new Set(useful.map(nameOf));
  for (const [file, input] of files) if (!names.has(nameOf(input))) rmSync(file);
}

function replay(file: string): void {
  const [name = ''] = positionals;
  const target = targetNamed(name) ?? usage(`--replay needs a target, not "${name}"`);
  const input = new Uint8Array(readFileSync(file));
  line(`${name}: ${input.length} bytes ${Buffer.from(input).toString('hex')}`);
  line(`${name}: ${target.run(input)}`);
}

async function main(): Promise<void> {
  if (values.help)
    usage(
      'npm run fuzz -- [--seconds N] [--seed S] [--patience N] [--no-save] [--tidy] [--replay FILE] [target…]',
    );
  if (values.replay !== undefined) {
    replay(values.replay);
    return;
  }
  const seconds = Number(values.seconds);
  if (!(seconds >= 0)) usage(`--seconds ${values.seconds}: not a number`);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
  if (!Number.isInteger(seed)) usage(`--seed ${values.seed}: not a whole number`);
  const names = positionals.length > 0 ? positionals : TARGETS.map(({ name }) => name);
  for (const name of names) if (targetNamed(name) === undefined) usage(`no such target: ${name}`);

  const shared = new Shared();
  let interrupted = false;
  process.on('SIGINT', () => {
    if (interrupted) process.exit(130);
    interrupted = true;
    shared.requestStop();
  });

  line(`seed ${seed}, ${seconds} seconds`);
  let failed = false;
  for (const name of names) {
    if (interrupted) break;
    const outcome = await fuzz(name, seed, (1000 * seconds) / names.length, shared);
    failed ||= outcome === 'found';
  }
  if (interrupted) line('stopped');
  process.exitCode = failed ? 1 : interrupted ? 130 : 0;
}

await main();
