/** What the list is made of: the numbered requirements, the names of the tests, and reasons where there is no test. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
export const REASONS_FILE = 'docs/conformance-reasons.json';

export interface Requirement {
  /** "ENO-23" */
  readonly number: string;
  readonly text: string;
  /** "§4.3, §4.6" */
  readonly sections: readonly string[];
}

export interface TestName {
  /** From the root of the repository. */
  readonly file: string;
  readonly name: string;
  readonly requirements: readonly string[];
}

/** Why there is no test, by requirement. "not yet: …" says that there will be one. */
export type Reasons = { readonly [requirement: string]: string };

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** The rows of docs/requirements.md. */
export function requirements(): Requirement[] {
  const rows = read('docs/requirements.md').matchAll(/^\| ((?:ENO|TC)-\d+) *\| (.+?) *\| (§[^|]+?) *\|$/gm);
  return [...rows].map(([, number = '', text = '', sections = '']) => ({
    number,
    text,
    sections: sections.split(', '),
  }));
}

/** `test('…'`, `t.test("…"`, and templates; not those that are skipped. */
const TEST = /(?<![\w.])(?:t\.)?test\(\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|`((?:\\.|[^`\\])*)`)/g;

/** The names of all tests, from the sources: so nothing has to run, and no privilege is needed. */
export function testNames(): TestName[] {
  const files = readdirSync(join(ROOT, 'test'), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith('.test.ts'))
    .sort();
  return files.flatMap((name) => {
    const file = `test/${name}`;
    return namesIn(read(file)).map((test) => ({ file, name: test, requirements: numbersIn(test) }));
  });
}

export function namesIn(source: string): string[] {
  return [...source.matchAll(TEST)].map(([, single, double, template]) => {
    const text = (single ?? double ?? template ?? '').replaceAll(/\\(['"`\\])/g, '$1');
    return template === undefined ? text : text.replaceAll(/\$\{[^}]*\}/g, '…');
  });
}

/** "ENO-9 to ENO-15, TC-1" → ENO-9 … ENO-15, TC-1. */
export function numbersIn(name: string): string[] {
  const numbers: string[] = [];
  for (const [, kind = '', first = '', last] of name.matchAll(/\b(ENO|TC)-(\d+)(?: to \1-(\d+))?/g))
    for (let n = Number(first); n <= Number(last ?? first); n++) numbers.push(`${kind}-${n}`);
  return numbers;
}

export const reasons = (): Reasons => JSON.parse(read(REASONS_FILE));

/** Where a section is implemented: existing files only. */
export function exists(file: string): boolean {
  try {
    read(file);
    return true;
  } catch {
    return false;
  }
}

export const fromRoot = (path: string): string => relative(ROOT, path);
