/** Whole connections in the simulated network: the input is what test/rig/connection.ts makes a scenario of. */
import { runScenario, scenarioOf, type Weather } from '../../rig/connection.js';
import { type Random, RandomOfBytes } from '../../support/random.js';
import type { Target } from '../target.js';

const connection = (weather: Weather): Target => ({
  name: weather === 'any' ? 'connection' : `connection-${weather}`,
  about: 'a scenario: two hosts, the path between them, and what both applications do',
  generate: (random: Random) => random.bytes(60 + random.below(200)),
  run: (input) =>
    runScenario(scenarioOf(new RandomOfBytes(input), weather))
      .map(({ client, server }) =>
        [client, server]
          .map(({ outcome, error, resetSeen, endSeen, session }) =>
            [outcome?.result, session?.resumed, error, resetSeen, endSeen].join(' '),
          )
          .join(' / '),
      )
      .at(-1) ?? '',
});

export const CONNECTION_TARGETS: readonly Target[] = [connection('any')];
export const connectionIn = connection;
