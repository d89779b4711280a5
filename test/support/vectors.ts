/** Reads the vector files; their fields are described in test/vectors/README.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

interface VectorFile<Row> {
  readonly count: number;
  readonly vectors: readonly Row[];
}

/** All rows, whose number the file states. */
export function vectors<Row>(name: string): readonly Row[] {
  const url = new URL(`../../../test/vectors/${name}.json`, import.meta.url);
  const file: VectorFile<Row> = JSON.parse(readFileSync(url, 'utf8'));
  assert.equal(file.vectors.length, file.count);
  return file.vectors;
}

export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const concat = (pieces: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(pieces));
