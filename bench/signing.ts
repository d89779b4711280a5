/**
 * What a signature over many connections costs each of them: CPU time of this process alone, without sockets. The
 * server signs a batch and makes a path for each client; each client follows its path and verifies the signature.
 */
import { createPublicKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type BatchProof, BatchSigner, signedContent } from '#src/auth/batch-signer.js';
import { leafOf, rootOf } from '#src/auth/merkle.js';
import { verifySignature } from '#src/auth/signature-scheme.js';
import type { Lab } from '#src/lab/lab.js';
import { certificate, type KeyType } from './certificate.js';
import { median, table } from './table.js';

const BATCHES = [1, 4, 16, 64, 256, 1024] as const;
const ROUNDS = 5;
/** Signatures per round, at least. */
const SIGNATURES = 20;
const CONNECTIONS = 400;

const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

interface Cost {
  /** Microseconds per connection. */
  readonly server: number;
  readonly client: number;
}

async function round(signer: BatchSigner, batch: number, times: number): Promise<Cost> {
  const bindings = Array.from({ length: batch }, () => randomBytes(32));
  const before = cpu();
  let proofs: BatchProof[] = [];
  for (let i = 0; i < times; i++) proofs = await Promise.all(bindings.map((binding) => signer.sign(binding)));
  const signed = cpu();
  const key = createPublicKey(signer.key);
  const checks = Math.max(CONNECTIONS, batch);
  for (let i = 0; i < checks; i++) {
    const binding = bindings[i % batch] as Buffer;
    const proof = proofs[i % batch] as BatchProof;
    const root = rootOf(leafOf(proof.blind, binding), proof);
    const content = root && signedContent(proof.size, root);
    if (!content || !verifySignature(key, signer.scheme, content, proof.signature)) throw new Error('wrong');
  }
  return { server: (signed - before) / (times * batch), client: (cpu() - signed) / checks };
}

async function cost(key: string, batch: number): Promise<Cost> {
  const signer = new BatchSigner({ key, maximum: batch });
  const times = Math.max(SIGNATURES, Math.ceil(CONNECTIONS / batch));
  await round(signer, batch, times);
  const rounds: Cost[] = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push(await round(signer, batch, times));
  return {
    server: median(rounds.map(({ server }) => server)),
    client: median(rounds.map(({ client }) => client)),
  };
}

/** Markdown: µs of CPU per connection, and how many connections the CPU second of one signature each is worth. */
export async function signingTable(lab: Lab): Promise<string> {
  const types: readonly KeyType[] = ['rsa', 'ecdsa', 'ed25519'];
  const rows: string[][] = [];
  const alone = new Map<KeyType, number>();
  for (const batch of BATCHES) {
    const cells = [`${batch}`];
    for (const type of types) {
      const { server, client } = await cost(readFileSync(certificate(lab, type).key, 'utf8'), batch);
      if (batch === 1) alone.set(type, server);
      const times = (alone.get(type) ?? server) / server;
      cells.push(`${server.toFixed(1)} (${times.toFixed(1)} ×)`, client.toFixed(1));
    }
    rows.push(cells);
  }
  const titles = ['RSA-2048', 'ECDSA', 'Ed25519'].flatMap((name) => [`${name} sign, µs`, 'verify, µs']);
  return table([['connections per signature', ...titles], ...rows]);
}
