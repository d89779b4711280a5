/** Which rule decides, and why: the same as the rules in the kernel, in words. */
import { contains, type Network, networkText, parseNetwork } from './network.js';
import {
  allRules,
  type Direction,
  type Policy,
  type PolicyAction,
  type PortRange,
  type Rule,
} from './policy.js';

/** What is known of a connection; what is not may leave the answer open. */
export interface Question {
  readonly direction: Direction;
  /** The other end. */
  readonly peer?: Network;
  /** The port that is connected to. */
  readonly port?: number;
  readonly localPort?: number;
  readonly uid?: number;
  readonly cgroup?: string;
  readonly thisHost?: boolean;
}

/** `open`: it depends on what the question does not tell. */
export type Match = 'yes' | 'no' | 'open';

export interface Step {
  readonly rule: Rule;
  /** From 1, of the operator's rules; absent for those that are built in. */
  readonly number?: number;
  readonly match: Match;
  /** The condition that failed, or that nothing is known about; what matched otherwise. */
  readonly why: string;
}

export interface Explanation {
  /** What becomes of the connection: the rule's action, but within this host nothing is encrypted, see {@link effect}. */
  readonly action: PolicyAction;
  readonly decided: Step;
  /** Rules before it that would decide, depending on what the question does not tell. */
  readonly open: readonly Step[];
  readonly steps: readonly Step[];
}

export function explain(policy: Policy, asked: Question): Explanation {
  const question = arrived(asked);
  const steps: Step[] = [];
  const rules = allRules(policy).filter(({ directions }) => directions.includes(question.direction));
  for (const rule of rules) {
    const index = policy.rules.indexOf(rule);
    const step = { rule, ...(index < 0 ? {} : { number: index + 1 }), ...judge(rule, question) };
    steps.push(step);
    if (step.match === 'yes') {
      const open = steps.filter(({ match }) => match === 'open');
      return { action: effect(rule.action, question), decided: step, open, steps };
    }
  }
  throw new Error('the default matches everything');
}

/**
 * Connections within this host are not encrypted, whatever rule decides: they do not leave it. They can be blocked, but
 * only where they begin.
 */
export const effect = (
  action: PolicyAction,
  { direction, thisHost = false }: Pick<Question, 'direction' | 'thisHost'>,
): PolicyAction => (thisHost && (action !== 'block' || direction === 'inbound') ? 'clear' : action);

/** The kernel takes a destination without address, 0.0.0.0 or ::, for the loopback address. */
function arrived(question: Question): Question {
  const { direction, peer } = question;
  const loopback = direction === 'outbound' && peer !== undefined && LOOPBACK.get(networkText(peer));
  return loopback ? { ...question, peer: loopback, thisHost: true } : question;
}

const LOOPBACK = new Map(
  [
    ['0.0.0.0/32', '127.0.0.1'],
    ['::/128', '::1'],
  ].map(([none = '', address = '']) => [none, parseNetwork(address)]),
);

interface Condition {
  readonly text: string;
  readonly match: Match;
}

function judge(rule: Rule, question: Question): { match: Match; why: string } {
  const conditions = conditionsOf(rule, question);
  const decisive =
    conditions.find(({ match }) => match === 'no') ?? conditions.find(({ match }) => match === 'open');
  if (decisive !== undefined) return { match: decisive.match, why: decisive.text };
  return { match: 'yes', why: conditions.map(({ text }) => text).join(', ') || 'matches everything' };
}

function conditionsOf(rule: Rule, question: Question): Condition[] {
  const { networks, ports, localPorts, users, cgroups, thisHost } = rule;
  const { direction, peer, port, uid, cgroup } = question;
  const localPort = direction === 'inbound' ? port : question.localPort;
  return [
    ...condition(thisHost && [true], 'within this host', question.thisHost ?? false, (a, b) => a === b),
    ...condition(networks, `network ${networks?.map(networkText).join(', ')}`, peer, contains),
    ...condition(ports, `port ${rangesText(ports)}`, port, includes),
    ...condition(localPorts, `local port ${rangesText(localPorts)}`, localPort, includes),
    ...condition(
      users,
      `user ${users?.map(({ name }) => name).join(', ')}`,
      uid,
      (user, id) => user.uid === id,
    ),
    ...condition(cgroups, `cgroup ${cgroups?.join(', ')}`, cgroup, isBelow),
  ];
}

function condition<Wanted, Known>(
  wanted: readonly Wanted[] | undefined,
  text: string,
  known: Known | undefined,
  matches: (wanted: Wanted, known: Known) => boolean,
): Condition[] {
  if (wanted === undefined) return [];
  if (known === undefined) return [{ text, match: 'open' }];
  return [{ text, match: wanted.some((one) => matches(one, known)) ? 'yes' : 'no' }];
}

const includes = ([first, last]: PortRange, port: number): boolean => first <= port && port <= last;
const isBelow = (ancestor: string, cgroup: string): boolean => `${cgroup}/`.startsWith(`${ancestor}/`);
const rangesText = (ranges: readonly PortRange[] = []): string =>
  ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(', ');
