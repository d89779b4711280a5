/** docs/conformance.md, and what is wrong with it. */
import { ENO_SECTIONS, type Section, TCPCRYPT_SECTIONS } from './sections.js';
import { exists, type Reasons, type Requirement, type TestName } from './sources.js';

export interface Sources {
  readonly requirements: readonly Requirement[];
  readonly tests: readonly TestName[];
  readonly reasons: Reasons;
}

const kindOf = ({ number }: Requirement): string => number.replace(/\d+$/, '');

/** The tests of each requirement. */
export function proofs({ requirements, tests }: Sources): Map<string, TestName[]> {
  const proofs = new Map<string, TestName[]>(requirements.map(({ number }) => [number, []]));
  for (const test of tests) for (const number of test.requirements) proofs.get(number)?.push(test);
  return proofs;
}

/** Nothing may be wrong: each problem in a sentence. */
export function problems(sources: Sources): string[] {
  const { requirements, tests, reasons } = sources;
  const found: string[] = [];
  const known = new Set(requirements.map(({ number }) => number));
  for (const [number, proof] of proofs(sources)) {
    const reason = reasons[number];
    if (proof.length === 0 && reason === undefined) found.push(`${number} has neither a test nor a reason`);
    if (proof.length > 0 && reason !== undefined)
      found.push(`${number} has a reason for having no test, and a test: ${proof[0]?.file}`);
    if (reason !== undefined && reason.length < 20) found.push(`${number}: the reason says nothing`);
  }
  for (const number of Object.keys(reasons))
    if (!known.has(number)) found.push(`a reason for ${number}, which is no requirement`);
  for (const { file, name, requirements: numbers } of tests)
    for (const number of numbers)
      if (!known.has(number)) found.push(`${file}: "${name}" names ${number}, which is no requirement`);
  for (const [kind, sections] of [
    ['ENO-', ENO_SECTIONS],
    ['TC-', TCPCRYPT_SECTIONS],
  ] as const) {
    for (const { section, implemented } of sections)
      for (const file of implemented)
        if (!exists(file))
          found.push(`${kind} ${section} is said to be implemented in ${file}, which does not exist`);
    for (const requirement of requirements)
      for (const section of requirement.sections)
        if (kindOf(requirement) === kind && !sections.some((row) => row.section === section))
          found.push(`${requirement.number}: ${section} is missing in test/conformance/sections.ts`);
  }
  return found;
}

/** Reasons that say "not yet", for what has a test by now: `npm run conformance` removes them. */
export const outdated = (sources: Sources): string[] =>
  [...proofs(sources)]
    .filter(([number, proof]) => proof.length > 0 && sources.reasons[number]?.startsWith('not yet'))
    .map(([number]) => number);

export function render(sources: Sources): string {
  const { requirements, reasons } = sources;
  const proof = proofs(sources);
  const untested = requirements.filter(({ number }) => proof.get(number)?.length === 0);
  const waiting = untested.filter(({ number }) => reasons[number]?.startsWith('not yet')).length;
  return `<!-- Made by "npm run conformance" from the names of the tests. Do not edit. -->

# Conformance

You want to know whether a rule of the RFCs is kept, and what proves it. Every requirement of
[requirements.md](requirements.md) is here, with the tests that carry its number in their names, or with the reason why
there is none. A test fails when one has neither, or when this list is out of date (\`npm run conformance\` makes it anew).

${requirements.length} requirements: ${requirements.length - untested.length} tested, ${untested.length - waiting} with a reason, ${waiting} not yet tested.

## By section

${sectionTable('RFC 8547: TCP-ENO', ENO_SECTIONS, 'ENO-', sources, proof)}

${sectionTable('RFC 8548: tcpcrypt', TCPCRYPT_SECTIONS, 'TC-', sources, proof)}

## TCP-ENO, requirement by requirement

${requirementTable('ENO-', sources, proof)}

## tcpcrypt, requirement by requirement

${requirementTable('TC-', sources, proof)}
`;
}

function sectionTable(
  title: string,
  sections: readonly Section[],
  kind: string,
  { requirements }: Sources,
  proof: ReadonlyMap<string, readonly TestName[]>,
): string {
  const rows = sections.map(({ section, title: name, implemented }) => {
    const own = requirements.filter(
      (requirement) => kindOf(requirement) === kind && requirement.sections.includes(section),
    );
    const files = new Set(own.flatMap(({ number }) => (proof.get(number) ?? []).map(({ file }) => file)));
    return `| ${section} ${name} | ${code(implemented)} | ${own.map(({ number }) => number).join(', ')} | ${code([...files].sort())} |`;
  });
  return `### ${title}

| section | implemented in | requirements | tests |
| --- | --- | --- | --- |
${rows.join('\n')}`;
}

function requirementTable(
  kind: string,
  { requirements, reasons }: Sources,
  proof: ReadonlyMap<string, readonly TestName[]>,
): string {
  const rows = requirements
    .filter((requirement) => kindOf(requirement) === kind)
    .map(({ number, text, sections }) => {
      const tests = proof.get(number) ?? [];
      const shown =
        tests.length > 0
          ? [...new Set(tests.map(({ file, name }) => `\`${file}\`: ${cell(name)}`))].join('<br>')
          : `*${cell(reasons[number] ?? '')}*`;
      return `| ${number} | ${cell(text)} (${sections.join(', ')}) | ${shown} |`;
    });
  return `| number | requirement | proof |
| --- | --- | --- |
${rows.join('\n')}`;
}

const code = (files: readonly string[]): string => files.map((file) => `\`${file}\``).join(', ');
const cell = (text: string): string =>
  text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('*', '\\*');
