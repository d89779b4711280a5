/**
 * Three machines: alice, bob, and a router between them on which somebody redirects alice's connections to himself,
 * terminates tcpcrypt, and speaks with bob in her place.
 *
 *     alice ── SYN to bob:7000 ──▶ router: REDIRECT to the man in the middle ── a connection of his own ──▶ bob
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import type { AgentOptions } from './support/agent.js';
import { type KernelPart, kernelPartIn } from './support/network.js';
import { makeMaterial, SETTING_NAMES, type SettingName } from './support/settings.js';

const PORT = 7000;
const SECRET = 'the secret of the application';
const AGENT = fileURLToPath(new URL('./support/agent.js', import.meta.url));

interface Report {
  readonly sessionId: string;
  readonly outcome: string | { readonly name: string };
  readonly received: string;
}
interface MiddleReport {
  readonly sessionIds: readonly string[];
  readonly heard: string;
}

let lab: Lab;
let alice: Host;
let bob: Host;
const kernelParts: KernelPart[] = [];
const material = await makeMaterial();

before(async () => {
  lab = await Lab.create({ name: 'auth' });
  alice = lab.host('alice');
  bob = lab.host('bob');
  for (const { namespace, cgroup } of [alice, bob, lab.router]) {
    kernelParts.push(kernelPartIn(cgroup, namespace));
  }
});
after(async () => {
  for (const part of kernelParts) await part.undo();
  await lab?.destroy();
});

/** A running agent, and what it says, line by line. */
class Agent {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(where: Pick<Host, 'spawn'>, options: Partial<AgentOptions>) {
    const all = { host: bob.address4, port: PORT, material, secret: SECRET, ...options };
    const known = join(lab.directory, `known-${options.mechanism ?? ''}`);
    this.#child = where.spawn(process.execPath, [AGENT, JSON.stringify({ ...all, knownHosts: known })], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { stdout } = this.#child;
    assert.ok(stdout !== null);
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }
  async next<T>(): Promise<T> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, 'the agent has ended');
    return JSON.parse(value) as T;
  }
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

/** One connection of alice to bob, with or without somebody in the middle. */
async function connection(
  mechanism: SettingName | undefined,
  lies?: AgentOptions['lies'],
): Promise<{ ofAlice: Report; ofBob: Report; middle?: MiddleReport }> {
  const chosen = mechanism === undefined ? {} : { mechanism };
  const agents: Agent[] = [];
  const start = (where: Pick<Host, 'spawn'>, options: Partial<AgentOptions>): Agent => {
    const agent = new Agent(where, { ...chosen, ...options });
    agents.push(agent);
    return agent;
  };
  try {
    const server = start(bob, { part: 'server' });
    await server.next();
    let middle: Agent | undefined;
    if (lies !== undefined) {
      middle = start(lab.router, { part: 'middle', lies });
      await middle.next();
      lab.router.enter('nft', ['-f', '-'], REDIRECT);
    }
    const ofAlice = await start(alice, { part: 'client' }).next<Report>();
    const ofBob = await server.next<Report>();
    return middle === undefined
      ? { ofAlice, ofBob }
      : { ofAlice, ofBob, middle: await middle.next<MiddleReport>() };
  } finally {
    if (lies !== undefined) lab.router.enter('nft', ['delete', 'table', 'ip', 'man_in_the_middle']);
    for (const agent of agents) await agent.stop();
  }
}

const REDIRECT = `table ip man_in_the_middle {
  chain prerouting {
    type nat hook prerouting priority dstnat
    iifname alice tcp dport ${PORT} redirect to :${PORT}
  }
}
`;

const CODE =
  /^ERR_TCPCRYPT_AUTH_(SESSION|DOWNGRADED|PROOF|BATCH|REFUSED|TRUNCATED)$|^ECONNRESET$|^ERR_TCPCRYPT_STREAM_TRUNCATED$/;

test('without authentication, and without anybody in the middle: one session ID', async () => {
  const { ofAlice, ofBob } = await connection(undefined);
  assert.equal(ofAlice.sessionId, ofBob.sessionId);
  assert.equal(ofAlice.received, `answer to ${SECRET}`);
});

test('without authentication, the man in the middle reads everything, and the session IDs differ', async () => {
  const { ofAlice, ofBob, middle } = await connection(undefined, 'none');
  assert.equal(ofAlice.received, `answer to ${SECRET}`);
  assert.equal(ofBob.received, SECRET);
  assert.equal(middle?.heard, SECRET);
  assert.notEqual(ofAlice.sessionId, ofBob.sessionId);
  assert.deepEqual(middle?.sessionIds, [ofAlice.sessionId, ofBob.sessionId]);
});

for (const mechanism of SETTING_NAMES) {
  describe(mechanism, () => {
    test('nobody in the middle', async () => {
      const { ofAlice, ofBob } = await connection(mechanism);
      assert.equal(typeof ofAlice.outcome, 'object', JSON.stringify(ofAlice));
      assert.equal(typeof ofBob.outcome, 'object', JSON.stringify(ofBob));
      assert.equal(ofAlice.received, `answer to ${SECRET}`);
    });
    for (const lies of ['none', 'agreement'] as const) {
      test(`both notice the man in the middle; his lies: ${lies}`, async () => {
        const { ofAlice, ofBob, middle } = await connection(mechanism, lies);
        for (const { outcome, received } of [ofAlice, ofBob]) {
          assert.match(String(outcome), CODE);
          assert.equal(received, '');
        }
        assert.ok(!middle?.heard.includes(SECRET));
      });
    }
  });
}
