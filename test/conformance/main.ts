/** npm run conformance: writes docs/conformance.md, and removes the reasons "not yet: …" of what is tested by now. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outdated, problems, render } from './list.js';
import { REASONS_FILE, ROOT, reasons, requirements, testNames } from './sources.js';

const sources = { requirements: requirements(), tests: testNames(), reasons: { ...reasons() } };
const gone = outdated(sources);
for (const number of gone) {
  delete sources.reasons[number];
  process.stdout.write(`${number} is tested now: reason removed\n`);
}
if (gone.length > 0) writeFileSync(join(ROOT, REASONS_FILE), `${JSON.stringify(sources.reasons, null, 2)}\n`);
writeFileSync(join(ROOT, 'docs/conformance.md'), render(sources));
for (const problem of problems(sources)) {
  process.stderr.write(`${problem}\n`);
  process.exitCode = 1;
}
