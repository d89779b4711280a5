/**
 * `node build/bench/micro.js [DIST]`: CPU time of the protocol core alone, without sockets. With the directory of
 * another build as argument, that build: run both in turn to compare.
 */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type * as SessionModule from '#src/session/index.js';
import { median } from './table.js';

const dist = process.argv[2];
const { Session, negotiatedFromTranscript } = (await import(
  dist === undefined ? '#src/session/index.js' : pathToFileURL(resolve(dist, 'session/index.js')).href
)) as typeof SessionModule;

const TRANSCRIPT = Uint8Array.of(69, 3, 0x23, 69, 4, 1, 0x23);
const ROUNDS = 7;

function end(role: 'A' | 'B'): SessionModule.Session {
  const negotiated = negotiatedFromTranscript(TRANSCRIPT, role);
  if (negotiated.result !== 'encrypt') throw new Error('not negotiated');
  return new Session({ negotiated });
}

function deliver(from: SessionModule.Session, to: SessionModule.Session): void {
  for (const piece of from.pollTransmit()) to.handleData(piece);
  while (to.pollEvent() !== undefined);
}

function pair(): readonly [SessionModule.Session, SessionModule.Session] {
  const a = end('A');
  const b = end('B');
  deliver(a, b);
  deliver(b, a);
  return [a, b];
}

/** Microseconds of CPU time of this process, its collector of garbage included. */
function measure(name: string, count: number, step: () => void): void {
  for (let i = 0; i < count; i++) step();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    for (let i = 0; i < count; i++) step();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / count;
  });
  console.log(`${name.padEnd(36)} ${median(rounds).toFixed(2).padStart(8)} µs`);
}

measure('fresh connection, both ends', 500, () => {
  for (const session of pair()) session.destroy();
});
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
