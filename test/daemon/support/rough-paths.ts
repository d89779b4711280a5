/** Paths that lose, delay, reorder and repeat segments, that are narrow, or strip the option here and there: all bytes arrive. */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually, Pair, skip } from './pair.js';
import { policyFile } from './policies.js';
import { type Roughness, roughen } from './rough-wire.js';

const program = fileURLToPath(new URL('./transfer.js', import.meta.url));
const COUNT = 4;
const STRIP = 'reset tcp option 69';

const HANDSHAKES = 'loses every third segment of handshakes';

interface Path {
  readonly how: Roughness;
  /** Of each connection and direction; default 300,000. */
  readonly bytes?: number;
  /** The option, or whole handshakes, may be lost for good: plain TCP then, unless it must be encrypted. */
  readonly maybePlain?: true;
}

const PATHS: Record<string, Path> = {
  'loses 3 of 100 segments': { how: { loss: 3, delay: 1 } },
  'delays, and mixes up the order': { how: { delay: 3, jitter: 12 } },
  'repeats a third of all segments': { how: { duplicates: 33 } },
  'repeats, mixes up and loses': { how: { duplicates: 20, loss: 1, delay: 1, jitter: 5 } },
  'small packets, 1280 bytes': { how: { mtu: 1280 } },
  'tiny windows': { how: { buffers: 4096 }, bytes: 60_000 },
  'tiny windows and loss': { how: { buffers: 8192, loss: 1, delay: 1 }, bytes: 30_000 },
  [HANDSHAKES]: {
    how: { rules: ['tcp flags & (syn | fin) == syn numgen random mod 3 == 0 drop'] },
    bytes: 10_000,
    maybePlain: true,
  },
  'strips the option from segments with data': {
    how: { rules: [`tcp flags & (syn | psh) == psh ${STRIP}`] },
  },
  // The last one, as the kernel takes IPv6 away from such an interface.
  'smallest packets, 576 bytes': { how: { mtu: 576 } },
};

/** @param by what opens the connections: node:net, under daemons, or our library */
export const testRoughPaths = (title: string, by: 'net' | 'library', policy?: 'private'): void => {
  describe(title, { skip }, () => {
    let pair: Pair;
    let port = 7500;
    before(async () => {
      pair = await Pair.open('neither end');
      const flags = policy === undefined ? [] : ['--policy', policyFile(pair.lab, `default = "${policy}"\n`)];
      for (const host of [pair.alice, pair.bob]) pair.kernelPart(host);
      if (by === 'library') return;
      pair.onAlice = await pair.daemon(pair.alice, flags);
      pair.onBob = await pair.daemon(pair.bob, flags);
    });
    after(() => pair?.close());

    for (const [name, { how, bytes = 300_000, ...path }] of Object.entries(PATHS))
      for (const family of [4, 6] as const) {
        if (family === 6 && how.mtu === 576) continue;
        if (policy === 'private' && name !== HANDSHAKES) continue;
        const maybePlain = path.maybePlain && policy === undefined;
        test(`${name}, IPv${family}`, { timeout: 90_000 }, async () => {
          port++;
          pair.forget();
          const { alice, bob, lab } = pair;
          const server = bob.spawn(process.execPath, [program, 'serve', by, `${port}`], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          const served: unknown[] = [];
          if (server.stdout !== null)
            createInterface({ input: server.stdout }).on('line', (line) => served.push(JSON.parse(line)));
          await bob.waitForListener(port);
          const undo = await roughen(lab, [alice, bob], how);
          try {
            const address = family === 4 ? bob.address4 : bob.address6;
            const { stdout, stderr } = await alice.run(
              process.execPath,
              [program, 'call', by, address, `${port}`, `${COUNT}`, `${bytes}`],
              { timeoutMs: 80_000 },
            );
            const called = String(stdout)
              .trim()
              .split('\n')
              .map((line) => JSON.parse(line));
            const encrypted = by === 'library' ? !maybePlain : false;
            const expected = { whole: true, ...(maybePlain ? {} : { encrypted }) };
            const without = ({ encrypted: _, ...outcome }: { encrypted: boolean }) => outcome;
            const seen = (all: unknown[]) =>
              maybePlain ? all.map((one) => without(one as { encrypted: boolean })) : all;
            assert.deepEqual(seen(called), Array(COUNT).fill(expected), stderr);
            await eventually(() => assert.deepEqual(seen(served), Array(COUNT).fill(expected)));
            if (by === 'net' && !maybePlain) await pair.assertEncrypted(port, COUNT);
          } finally {
            undo();
            server.kill('SIGKILL');
          }
        });
      }
  });
};
