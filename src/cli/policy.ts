/** `tcpcrypt policy`: is the file right, and what does it say about a connection? */
import { existsSync } from 'node:fs';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import { type Explanation, effect, explain, type Question, type Step } from '../daemon/policy/explain.js';
import { contains, type Network, parseNetwork } from '../daemon/policy/network.js';
import {
  BUILT_IN,
  type Direction,
  type Policy,
  type PolicyAction,
  type Rule,
} from '../daemon/policy/policy.js';
import {
  checkPolicy,
  DEFAULT_POLICY_FILE,
  loadPolicy,
  problemText,
  readPolicy,
} from '../daemon/policy/policy-file.js';
import { uidOf } from '../kernel/privileges.js';
import { parseWord } from './arguments.js';
import { FAILURE, print } from './report.js';

const MEANING: Record<PolicyAction, string> = {
  clear: 'left alone: plain TCP, without asking whether the other end could encrypt',
  'private-or-clear': 'encrypted if the other end can, plain TCP otherwise',
  private: 'encrypted, or refused',
  block: 'refused',
};

const WITHIN = 'does not concern connections within this host';

export function register(program: Command): void {
  const policy = program
    .command('policy')
    .description('Which connections the daemon encrypts, and which it refuses.');
  policy
    .command('check')
    .summary('find the mistakes in a policy file')
    .description('Find the mistakes in a policy file: with line and remedy. Exit code 1 when there are any.')
    .argument('[file]', 'the policy file', parseWord, DEFAULT_POLICY_FILE)
    .option('--json', 'print the result as JSON')
    .action((file: string, options: { json?: boolean }) => check(file, options.json));
  policy
    .command('explain')
    .summary('say what becomes of a connection, and which rule decides it')
    .description('Say what becomes of a connection, and which rule decides it.')
    .requiredOption('--to <address[:port]>', 'where it goes, e.g. 10.1.2.3:5432, [fd00::1]:80', parseEndpoint)
    .option('--from <address[:port]>', 'where it comes from', parseEndpoint)
    .option('--inbound', 'it comes in to this host; otherwise a program on this host opens it')
    .option('--user <name>', 'whose program opens it', parseUser)
    .option('--cgroup <path>', 'in which cgroup the program runs, e.g. /system.slice/app.service', parseWord)
    .option('--policy <file>', `the policy file (default: ${DEFAULT_POLICY_FILE}, if it is there)`, parseWord)
    .option('--json', 'print the result as JSON')
    .action((options: ExplainOptions) => explainTo(options));
}

function check(file: string, json: boolean | undefined): void {
  const result = checkPolicy(readPolicy(file), file);
  if (result.ok) {
    const { policy, notes } = result;
    const rules = `${policy.rules.length} rule${policy.rules.length === 1 ? '' : 's'}`;
    const { outbound, inbound } = policy.default;
    const defaults = outbound === inbound ? outbound : `${outbound} outbound, ${inbound} inbound`;
    const lines = [
      `${file}: ${rules}, default ${defaults}`,
      ...notes.map((note) => `note: ${problemText(file, note)}`),
    ];
    print(
      json,
      { ok: true, file, rules: policy.rules.length, default: policy.default, notes },
      lines.join('\n'),
    );
    return;
  }
  const { problems } = result;
  print(
    json,
    { ok: false, file, problems },
    problems.map((problem) => problemText(file, problem)).join('\n'),
  );
  process.exitCode = FAILURE;
}

interface Endpoint {
  readonly network: Network;
  readonly address: string;
  readonly port?: number;
}

interface ExplainOptions {
  readonly to: Endpoint;
  readonly from?: Endpoint;
  readonly inbound?: boolean;
  readonly user?: number;
  readonly cgroup?: string;
  readonly policy?: string;
  readonly json?: boolean;
}

function explainTo(options: ExplainOptions): void {
  const { to, from, user, cgroup, json } = options;
  const direction: Direction = options.inbound ? 'inbound' : 'outbound';
  const peer = options.inbound ? from : to;
  const localPort = from?.port;
  const question: Question = {
    direction,
    ...(peer === undefined ? {} : { peer: peer.network, thisHost: isThisHost(peer.network) }),
    ...(to.port === undefined ? {} : { port: to.port }),
    ...(localPort === undefined ? {} : { localPort }),
    ...(user === undefined ? {} : { uid: user }),
    ...(cgroup === undefined ? {} : { cgroup: cgroup.replace(/\/+$/, '') }),
  };
  const policy = policyOf(options.policy);
  const found = explain(policy, question);
  print(json, asJson(policy, direction, found), asText(policy, question, to, found));
}

function policyOf(file: string | undefined): Policy {
  if (file === undefined && !existsSync(DEFAULT_POLICY_FILE)) return BUILT_IN;
  return loadPolicy(file ?? DEFAULT_POLICY_FILE);
}

function asText(policy: Policy, question: Question, to: Endpoint, found: Explanation): string {
  const { direction } = question;
  const { action, decided } = found;
  const open = found.open.filter(({ rule }) => effect(rule.action, question) !== action);
  const within = decided.rule.action === action ? '' : `; it says ${decided.rule.action}, which ${WITHIN}`;
  return [
    `${direction} to ${to.address}${to.port === undefined ? '' : ` port ${to.port}`}: ${action} (${within === '' ? meaningOf(decided.rule) : MEANING[action]})`,
    `  by ${stepName(policy, decided)}: ${decided.why}${within}`,
    ...(open.length === 0 ? [] : ['unless, as it was not said,']),
    ...open.map((step) => `  ${stepName(policy, step)} applies, for ${step.why}: ${step.rule.action}`),
  ].join('\n');
}

const meaningOf = ({ action, authenticate }: Rule): string =>
  authenticate === undefined
    ? MEANING[action]
    : `encrypted, and the other host proves by ${authenticate} who it is; or refused`;

function stepName({ source }: Policy, { rule, number }: Step): string {
  if (number === undefined) return `the built-in rule "${rule.name}"`;
  const name = rule.name === undefined ? '' : ` "${rule.name}"`;
  return `rule ${number}${name} (${source}:${rule.line})`;
}

function asJson({ source }: Policy, direction: Direction, { action, decided, steps }: Explanation): unknown {
  const step = ({ rule, number, match, why }: Step): unknown => ({
    rule: number ?? 'built-in',
    ...(rule.name === undefined ? {} : { name: rule.name }),
    ...(rule.line === undefined ? {} : { line: rule.line }),
    action: rule.action,
    ...(rule.authenticate === undefined ? {} : { authenticate: rule.authenticate }),
    match,
    why,
  });
  return { policy: source, direction, action, decided: step(decided), steps: steps.map(step) };
}

/** "10.1.2.3:5432", "[fd00::1]:80", or an address alone. */
function parseEndpoint(text: string): Endpoint {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = isIP(text) === 0 ? (bracketed ?? plain) : text;
  const network = address === undefined || address.includes('/') ? undefined : parseNetwork(address);
  if (address === undefined || network === undefined || Number(port ?? 1) < 1 || Number(port ?? 1) > 0xffff)
    throw new InvalidArgumentError('an address, with or without a port: 10.1.2.3:5432, [fd00::1]:80.');
  return { address, network, ...(port === undefined ? {} : { port: Number(port) }) };
}

function parseUser(text: string): number {
  const uid = uidOf(text);
  if (uid === undefined) throw new InvalidArgumentError(`there is no user "${text}".`);
  return uid;
}

function isThisHost(network: Network): boolean {
  const own = Object.values(networkInterfaces()).flatMap((addresses = []) =>
    addresses.map(({ address }) => address),
  );
  return ['127.0.0.0/8', '::1', ...own].some((text) => {
    const one = parseNetwork(text.replace(/%.*/, ''));
    return one !== undefined && contains(one, network);
  });
}
