/**
 * `node build/bench/micro.js [DIST]`: CPU time of the protocol core alone, without sockets. With the directory of
 * another build as argument, that build: run both in turn to compare.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as SessionModule from '#src/session/index.js';

const dist = process.argv[2];
const {
  generateKeyPair,
  negotiatedFromTranscript,
  ResumptionCache,
  resumptionAnswered,
  resumptionOffer,
  resumptionProposal,
  Session,
} = (await import(
  dist === undefined ? '#src/session/index.js' : pathToFileURL(resolve(dist, 'session/index.js')).href
)) as typeof SessionModule;

type Session = SessionModule.Session;
type Attempt = SessionModule.ResumptionAttempt;

const TEP = 0x23;
const TRANSCRIPT = Uint8Array.of(69, 3, TEP, 69, 4, 1, TEP);
const ACCEPTABLE = { teps: [TEP], ciphers: [1] } as const;
const NONCE = new Uint8Array(8);
const ROUNDS = 100;
/** Connections that are at the same step at the same time. */
const PEERS = 50;

/** The first quartile: what others do on this machine makes rounds longer, never shorter. */
function show(name: string, times: readonly number[]): void {
  const sorted = [...times].sort((x, y) => x - y);
  console.log(`${name.padEnd(44)} ${(sorted[sorted.length >> 2] ?? 0).toFixed(2).padStart(8)} µs`);
}

/** Microseconds of CPU time of this process, its collector of garbage included, for each of `count`. */
function timed(count: number, step: (i: number) => void): number {
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) step(i);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

function measure(name: string, count: number, step: (i: number) => void): void {
  timed(2 * count, step);
  show(
    name,
    Array.from({ length: 20 }, () => timed(count / 10, step)),
  );
}

/** The steps that all connections of a round make, in order. */
class Steps {
  readonly #times = new Map<string, number[]>();

  for(name: string, step: (i: number) => void): void {
    const times = this.#times.get(name) ?? [];
    this.#times.set(name, times);
    times.push(timed(PEERS, step));
  }

  /** But for those of the first rounds, which are slow. */
  show(title: string): void {
    const rounds = [...this.#times].map(([name, times]) => [name, times.slice(-ROUNDS)] as const);
    const sums = Array.from({ length: ROUNDS }, (_, i) =>
      rounds.reduce((sum, [, times]) => sum + (times[i] ?? 0), 0),
    );
    show(title, sums);
    for (const [name, times] of rounds) show(`  ${name}`, times);
  }
}

function fresh(role: 'A' | 'B', keepResumable = false): Session {
  const negotiated = negotiatedFromTranscript(TRANSCRIPT, role);
  if (negotiated.result !== 'encrypt') throw new Error('not negotiated');
  return new Session({ negotiated, keepResumable });
}

function resumed(role: 'A' | 'B', transcript: Uint8Array, { session }: Attempt): Session {
  const resumption = resumptionProposal(session);
  const negotiated = negotiatedFromTranscript(transcript, role, { resumption });
  if (negotiated.result !== 'encrypt' || negotiated.kind !== 'resume') throw new Error('not resumed');
  return new Session({ negotiated, resumption: session });
}

function deliver(from: Session, to: Session): void {
  for (const piece of from.pollTransmit()) to.handleData(piece);
  while (to.pollEvent() !== undefined);
}

function pair(): readonly [Session, Session] {
  const a = fresh('A');
  const b = fresh('B');
  deliver(a, b);
  deliver(b, a);
  return [a, b];
}

/** Every one of `list`, by index. */
const of = <T>(list: readonly T[], i: number): T => {
  const found = list[i];
  if (found === undefined) throw new Error('a step was left out');
  return found;
};

/** One byte there and back, FINp in both directions, gone. */
function use(steps: Steps, a: readonly Session[], b: readonly Session[]): void {
  const byte = Uint8Array.of(7);
  steps.for('first frame of A, B reads it', (i) => {
    of(a, i).write(byte);
    deliver(of(a, i), of(b, i));
  });
  steps.for('first frame of B, A reads it', (i) => {
    of(b, i).write(byte);
    deliver(of(b, i), of(a, i));
  });
  steps.for('both end', (i) => {
    of(a, i).end();
    of(b, i).end();
    deliver(of(a, i), of(b, i));
    deliver(of(b, i), of(a, i));
  });
  steps.for('both are destroyed', (i) => {
    of(a, i).destroy();
    of(b, i).destroy();
  });
}

const caches = [
  new ResumptionCache({ limit: 2 * PEERS }),
  new ResumptionCache({ limit: 2 * PEERS }),
] as const;
/** What the kernel knows: our half by the peer's. */
const announced = new Map<string, Uint8Array>();
const nameOf = (half: Uint8Array): string => Buffer.from(half).toString('latin1');
caches[1].attach({
  announce(sessions) {
    for (const { peerHalf, ownHalf } of sessions) announced.set(nameOf(peerHalf), ownHalf);
  },
  withdraw: ({ peerHalf }) => announced.delete(nameOf(peerHalf)),
});

function connectFresh(steps: Steps): void {
  const [a, b]: [Session[], Session[]] = [[], []];
  const inits: Uint8Array[] = [];
  steps.for('A begins: key pair, Init1', (i) => {
    a[i] = fresh('A', true);
    inits[i] = of(of(a, i).pollTransmit(), 0);
  });
  steps.for('B begins: key pair', (i) => {
    b[i] = fresh('B', true);
  });
  steps.for('B: Init1, agreement, keys, Init2', (i) => {
    of(b, i).handleData(of(inits, i));
    inits[i] = of(of(b, i).pollTransmit(), 0);
  });
  steps.for('A: Init2, agreement, keys', (i) => of(a, i).handleData(of(inits, i)));
  for (const [name, sessions, cache] of [
    ['A: into the cache', a, caches[0]],
    ['B: into the cache, announced', b, caches[1]],
  ] as const)
    steps.for(name, (i) => {
      const kept = of(sessions, i).takeResumable();
      if (kept !== undefined) cache.keep(`peer ${i}`, kept, 0);
    });
  use(steps, a, b);
}

function connectResumed(steps: Steps): void {
  const [a, b]: [Session[], Session[]] = [[], []];
  const attempts: Attempt[] = [];
  const transcripts: Uint8Array[] = [];
  steps.for('A: out of the cache, offer', (i) => {
    const attempt = caches[0].open([`peer ${i}`], ACCEPTABLE, 0);
    if (attempt === undefined) throw new Error('nothing to resume');
    attempts[i] = attempt;
    transcripts[i] = resumptionOffer(attempt.session, NONCE, [TEP]).contents;
  });
  for (let i = 0; i < PEERS; i++) transcripts[i] = synAck(of(transcripts, i));
  steps.for('A: session, confirmed', (i) => {
    const attempt = of(attempts, i);
    a[i] = resumed('A', of(transcripts, i), attempt);
    caches[0].confirm(attempt);
  });
  steps.for('B: out of the cache, look-ahead', (i) => {
    const name = resumptionAnswered(of(transcripts, i));
    const attempt = name && caches[1].answer(name, 0);
    if (attempt === undefined) throw new Error('not announced');
    attempts[i] = attempt;
  });
  steps.for('B: session, confirmed', (i) => {
    const attempt = of(attempts, i);
    b[i] = resumed('B', of(transcripts, i), attempt);
    caches[1].confirm(attempt);
  });
  use(steps, a, b);
}

/** The kernel's part: the transcript of a SYN that resumes, and its answer. */
function synAck(contents: Uint8Array): Uint8Array {
  const peerHalf = nameOf(contents.subarray(1, 10));
  const half = announced.get(peerHalf);
  if (half === undefined) throw new Error('not announced');
  announced.delete(peerHalf);
  const answer = Uint8Array.of(1, TEP | 0x80, ...half, ...NONCE.subarray(1));
  return Uint8Array.of(69, contents.length + 2, ...contents, 69, answer.length + 2, ...answer);
}

measure('key pair of X25519', 500, () => generateKeyPair('X25519').erase());
const [ours, theirs] = [generateKeyPair('X25519'), generateKeyPair('X25519').publicKey];
measure('agreement of X25519', 500, () => ours.agree(theirs));

const freshSteps = new Steps();
for (let round = 0; round < 3 * ROUNDS; round++) connectFresh(freshSteps);
freshSteps.show('fresh connection, both ends');
const resumedSteps = new Steps();
for (let round = 0; round < 8 * ROUNDS; round++) connectResumed(resumedSteps);
resumedSteps.show('resumed connection, both ends');

const [a, b] = pair();
for (const [size, count] of [
  [64, 20_000],
  [1400, 20_000],
  [16_384, 5000],
  [65_518, 2000],
] as const) {
  const data = Buffer.alloc(size, 7);
  const [sealer] = pair();
  measure(`seal ${size} bytes`, count, () => {
    sealer.write(data);
    sealer.pollTransmit();
  });
  measure(`seal and open ${size} bytes`, count, () => {
    a.write(data);
    deliver(a, b);
  });
}
