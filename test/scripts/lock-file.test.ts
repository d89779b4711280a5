/** What `npm ci` needs of package-lock.json, so that a fresh clone can be installed. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

interface LockedPackage {
  readonly optionalDependencies?: Record<string, string>;
}
const text = readFileSync(new URL('../../../package-lock.json', import.meta.url), 'utf8');
const { packages } = JSON.parse(text) as { packages: Record<string, LockedPackage> };

// npm writes only those that the registry at hand serves, and then refuses the file that it wrote itself.
// Add the missing entries by hand, after the model of their siblings: version, os, cpu, libc, optional.
test('the lock file lists the packages of all platforms', () => {
  const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) =>
    Object.keys(optionalDependencies),
  );
  const missing = wanted.filter((name) => packages[`node_modules/${name}`] === undefined);
  assert.deepEqual(missing, []);
});

test('the lock file names no registry', () => {
  assert.doesNotMatch(text, /"resolved": "http/);
});
