/** Every requirement has its proof or its reason, and docs/conformance.md says so. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { outdated, problems, render } from './list.js';
import { namesIn, numbersIn, ROOT, reasons, requirements, testNames } from './sources.js';

test('every requirement has a test or a reason, and none has both', () => {
  const sources = { requirements: requirements(), tests: testNames(), reasons: reasons() };
  assert.equal(sources.requirements.length, 67 + 49);
  assert.deepEqual(problems(sources), []);
});

test('docs/conformance.md is up to date: npm run conformance', () => {
  const sources = { requirements: requirements(), tests: testNames(), reasons: reasons() };
  assert.equal(readFileSync(join(ROOT, 'docs/conformance.md'), 'utf8'), render(sources));
});

test('names of tests are found in sources, and numbers in names', () => {
  const source = `
    test('plain: it\\'s one', () => {});
      await t.test("double", () => {});
    for (const x of y) test(\`\${x} in a template\`, () => {});
    test.skip('skipped', () => {});
    assert.test('not a test');
    latest('not a test');
    test(
      'on its own line',
      () => {});`;
  assert.deepEqual(namesIn(source), ["plain: it's one", 'double', '… in a template', 'on its own line']);
  assert.deepEqual(numbersIn('ENO-9 to ENO-11, TC-4: and (TC-31)'), [
    'ENO-9',
    'ENO-10',
    'ENO-11',
    'TC-4',
    'TC-31',
  ]);
});

test('what is missing, contradictory, unknown or outdated is noticed', () => {
  const requirement = (number: string) => ({ number, text: 'MUST do', sections: ['§4.1'] });
  const sources = {
    requirements: ['ENO-1', 'ENO-2', 'ENO-3', 'ENO-4'].map(requirement),
    tests: [
      { file: 'a.test.ts', name: 'ENO-1, ENO-9: x', requirements: ['ENO-1', 'ENO-9'] },
      { file: 'a.test.ts', name: 'ENO-4: x', requirements: ['ENO-4'] },
    ],
    reasons: {
      'ENO-1': 'it is a matter of the application',
      'ENO-3': 'short',
      'ENO-4': 'not yet: the kernel part will test it',
      'TC-99': 'it is a matter of the application',
    },
  };
  const found = problems(sources).join('\n');
  for (const problem of [
    /ENO-1 has a reason .* and a test: a\.test\.ts/,
    /ENO-2 has neither/,
    /ENO-3: the reason says nothing/,
    /ENO-4 has a reason/,
    /TC-99, which is no requirement/,
    /a\.test\.ts: .* names ENO-9, which is no requirement/,
  ])
    assert.match(found, problem);
  assert.deepEqual(outdated(sources), ['ENO-4']);
  assert.match(render(sources), /4 requirements: 2 tested, 2 with a reason, 0 not yet tested/);
});
