/** Whole connections in the simulated network: the input is what test/rig/connection.ts makes a scenario of. */
import { runScenario, scenarioOf } from '../../rig/connection.js';
import { RandomOfBytes } from '../../support/random.js';
import type { Target } from '../target.js';

const connection: Target = {
  name: 'connection',
  about: 'a scenario: two hosts, the path between them, and what both applications do',
  generate: (random) => random.bytes(60 + random.below(200)),
  run: (input) =>
    runScenario(scenarioOf(new RandomOfBytes(input)))
      .map(({ client, server }) =>
        [client, server].map(({ outcome, error }) => `${outcome?.result} ${error}`).join(' / '),
      )
      .at(-1) ?? '',
};

export const CONNECTION_TARGETS: readonly Target[] = [connection];
