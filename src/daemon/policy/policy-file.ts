/**
 * The policy file: TOML, checked completely before any of it is used. Every problem names its line and the remedy.
 *
 *     default = "private-or-clear"          # or { outbound = "private", inbound = "clear" }
 *     except-ports = [22, 443]              # instead of the built-in list
 *
 *     [[rule]]                              # first match wins
 *     name = "database"
 *     action = "private"                    # clear, private-or-clear, private, block
 *     direction = "outbound"                # or "inbound"; both when left out
 *     network = ["10.1.0.0/16", "fd00::/8"] # the other end
 *     port = [5432, "6000-6010"]            # the port that is connected to
 *     local-port = 1023                     # this host's port
 *     cgroup = "/system.slice/app.service"
 *     user = "postgres"                     # outbound only
 *     authenticate = "host-key"             # with private: the other host must prove who it is
 *
 *     [authentication]                      # see host-secrets.ts
 *     host-key = "/etc/tcpcrypt/host_key"
 *     known-hosts = "/etc/tcpcrypt/known_hosts"
 */
import { readFileSync, statSync } from 'node:fs';
import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { TcpcryptError } from '../../errors.js';
import { uidOf } from '../../kernel/privileges.js';
import {
  HOST_MECHANISMS,
  incomplete,
  missing,
  SECRETS_SHAPE,
  SECRETS_WANTED,
  secretsOf,
} from './host-secrets.js';
import { lineOf, type Path } from './lines.js';
import { contains, type Network, parseNetwork } from './network.js';
import {
  ACTIONS,
  BUILT_IN,
  type Direction,
  merged,
  type Policy,
  type PolicyAction,
  type PortRange,
  type Rule,
  type User,
} from './policy.js';

export const DEFAULT_POLICY_FILE = '/etc/tcpcrypt/policy.toml';

/** Tuned by us. */
const MAX_BYTES = 1 << 20;
const MAX_RULES = 1_000;
const MAX_LIST = 4_096;

export interface Problem {
  /** From 1. */
  readonly line: number;
  readonly problem: string;
  readonly remedy: string;
}

export type PolicyFile =
  | { readonly ok: true; readonly policy: Policy; readonly notes: readonly Problem[] }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** @throws ERR_TCPCRYPT_POLICY with the first problems; ERR_TCPCRYPT_ARGUMENT when there is no such file */
export function loadPolicy(file: string): Policy {
  const result = checkPolicy(readPolicy(file), file);
  if (result.ok) return result.policy;
  const [first, ...more] = result.problems.map((problem) => problemText(file, problem));
  const rest = more.length === 0 ? '' : `; and ${more.length} more: tcpcrypt policy check ${file}`;
  throw new TcpcryptError('ERR_TCPCRYPT_POLICY', { detail: `${first}${rest}` });
}

/** @throws ERR_TCPCRYPT_ARGUMENT, ERR_TCPCRYPT_POLICY when it is too large */
export function readPolicy(file: string): string {
  try {
    if (statSync(file).size > MAX_BYTES)
      throw new TcpcryptError('ERR_TCPCRYPT_POLICY', { detail: `${file}: more than ${MAX_BYTES} bytes` });
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (cause instanceof TcpcryptError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    const remedy = code === 'EACCES' ? ': the running daemon is not root, chmod 644' : '';
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `cannot read ${file}: ${code}${remedy}`,
      cause,
    });
  }
}

export const problemText = (file: string, { line, problem, remedy }: Problem): string =>
  `${file}:${line}: ${problem}: ${remedy}`;

/** @param text the contents of `file` */
export function checkPolicy(text: string, file: string): PolicyFile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const problem = error.message.replace(/^Invalid TOML document: /, '').split('\n')[0] ?? '';
    return { ok: false, problems: [{ line: error.line, problem, remedy: 'see https://toml.io' }] };
  }
  const shape = v.safeParse(FILE, value);
  if (!shape.success)
    return { ok: false, problems: byLine(shape.issues.map((issue) => shapeProblem(text, issue))) };
  return new Reader(text, file).read(shape.output);
}

const byLine = (problems: readonly Problem[]): Problem[] => [...problems].sort((a, b) => a.line - b.line);

const ACTION = v.picklist(ACTIONS);
const listOf = <Item extends v.GenericSchema>(item: Item) =>
  v.union([item, v.pipe(v.array(item), v.minLength(1), v.maxLength(MAX_LIST))]);
const PORT = v.union([v.number(), v.string()]);

const RULE = v.strictObject({
  name: v.optional(v.pipe(v.string(), v.maxLength(100))),
  action: ACTION,
  direction: v.optional(v.picklist(['outbound', 'inbound', 'both'])),
  network: v.optional(listOf(v.string())),
  port: v.optional(listOf(PORT)),
  'local-port': v.optional(listOf(PORT)),
  cgroup: v.optional(listOf(v.string())),
  user: v.optional(listOf(PORT)),
  authenticate: v.optional(v.picklist(HOST_MECHANISMS)),
});

const FILE = v.strictObject({
  default: v.optional(
    v.union([ACTION, v.strictObject({ outbound: v.optional(ACTION), inbound: v.optional(ACTION) })]),
  ),
  'except-ports': v.optional(v.pipe(v.array(PORT), v.maxLength(MAX_LIST))),
  rule: v.optional(v.pipe(v.array(RULE), v.maxLength(MAX_RULES))),
  authentication: v.optional(SECRETS_SHAPE),
});

type FileShape = v.InferOutput<typeof FILE>;
type RuleShape = v.InferOutput<typeof RULE>;

const KEYS: Record<string, string> = {
  rule: Object.keys(RULE.entries).join(', '),
  default: 'outbound, inbound',
  authentication: Object.keys(SECRETS_SHAPE.entries).join(', '),
  file: Object.keys(FILE.entries).join(', '),
};
/** What a key wants, for whoever wrote something else. */
const WANTED: Record<string, string> = {
  default: `one of ${ACTIONS.join(', ')}, or { outbound = …, inbound = … }`,
  action: `one of ${ACTIONS.join(', ')}`,
  outbound: `one of ${ACTIONS.join(', ')}`,
  inbound: `one of ${ACTIONS.join(', ')}`,
  direction: 'one of outbound, inbound, both',
  'except-ports': 'a list of ports, e.g. [22, 443, "6000-6010"]; [] for none',
  rule: `[[rule]] in double brackets, ${MAX_RULES} at most`,
  name: 'a text of 100 characters at most',
  network: 'a network or a list of them, e.g. ["10.0.0.0/8", "fd00::/8"]',
  port: 'a port or a list of them, e.g. [5432, "6000-6010"]',
  'local-port': 'a port or a list of them, e.g. [5432, "6000-6010"]',
  cgroup: 'a path below the root of the hierarchy or a list of them, e.g. "/system.slice/app.service"',
  user: 'the name or number of a user, or a list of them',
  ...SECRETS_WANTED,
};

function shapeProblem(text: string, issue: v.BaseIssue<unknown>): Problem {
  const path: Path = (issue.path ?? []).map(({ key }) => key as string | number);
  const key = [...path].reverse().find((part): part is string => typeof part === 'string') ?? '';
  const line = lineOf(text, path);
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    const table = path.length === 1 ? 'file' : String(path[0]);
    return { line, problem: `there is no key "${key}"`, remedy: `the keys are ${KEYS[table] ?? KEYS.file}` };
  }
  if (issue.received === 'undefined')
    return { line, problem: `"${key}" is missing`, remedy: WANTED[key] ?? 'add it' };
  return {
    line,
    problem: `${valueText(issue.input)} does not fit "${key}"`,
    remedy: WANTED[key] ?? issue.message,
  };
}

/** What stands there, as far as it is worth repeating. */
function valueText(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'this list' : 'this table';
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value);
}

/** Gives the words of the file their meaning, and collects what has none. */
class Reader {
  readonly #text: string;
  readonly #file: string;
  readonly #problems: Problem[] = [];
  readonly #notes: Problem[] = [];

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  read(file: FileShape): PolicyFile {
    const { default: fallback = {}, 'except-ports': except, rule: shapes = [], authentication } = file;
    const rules = shapes.map((shape, i) => this.#rule(shape, ['rule', i]));
    const policy: Policy = {
      source: this.#file,
      rules,
      exceptPorts: except === undefined ? BUILT_IN.exceptPorts : this.#ports(except, ['except-ports']),
      default:
        typeof fallback === 'string'
          ? { outbound: fallback, inbound: fallback }
          : { ...BUILT_IN.default, ...withoutUndefined(fallback) },
      ...(authentication === undefined ? {} : { authentication: secretsOf(authentication) }),
    };
    this.#checkAuthentication(policy);
    if (this.#problems.length > 0) return { ok: false, problems: byLine(this.#problems) };
    this.#noteUnreachable(rules);
    if (except === undefined && Object.values(policy.default).some(isStrict))
      this.#note(
        ['default'],
        'ports of services that encrypt by themselves (22, 443, …) stay clear',
        'except-ports = [] for none',
      );
    return { ok: true, policy, notes: this.#notes };
  }

  #rule(shape: RuleShape, path: Path): Rule {
    const { name, action, direction, network, port, 'local-port': localPort, cgroup, user } = shape;
    const { authenticate } = shape;
    if (user !== undefined && direction !== undefined && direction !== 'outbound')
      this.#problem(
        [...path, 'direction'],
        'who owns a listening socket is not known when a connection comes in',
        '"user" goes with direction = "outbound"; for a server use port or cgroup',
      );
    const networks = network === undefined ? undefined : this.#networks(list(network), [...path, 'network']);
    if (isEncrypting(action) && networks?.some((one) => LOOPBACK.some((loopback) => contains(loopback, one))))
      this.#problem(
        [...path, 'network'],
        'connections within this host do not leave it and are not encrypted',
        'take loopback addresses out, or use action = "clear" or "block"',
      );
    return {
      ...(name === undefined ? {} : { name }),
      action,
      directions: directionsOf(direction ?? (user === undefined ? 'both' : 'outbound')),
      ...(networks === undefined ? {} : { networks }),
      ...(port === undefined ? {} : { ports: this.#ports(list(port), [...path, 'port']) }),
      ...(localPort === undefined
        ? {}
        : { localPorts: this.#ports(list(localPort), [...path, 'local-port']) }),
      ...(cgroup === undefined ? {} : { cgroups: this.#cgroups(list(cgroup), [...path, 'cgroup']) }),
      ...(user === undefined ? {} : { users: this.#users(list(user), [...path, 'user']) }),
      ...(authenticate === undefined ? {} : { authenticate }),
      line: lineOf(this.#text, path),
    };
  }

  #checkAuthentication({ rules, authentication }: Policy): void {
    for (const { key, needs } of authentication === undefined ? [] : incomplete(authentication))
      this.#problem(['authentication', key], `"${key}" is of no use without "${needs}"`, `add "${needs}"`);
    rules.forEach(({ authenticate, action, users, cgroups, directions }, i) => {
      if (authenticate === undefined) return;
      const path = ['rule', i, 'authenticate'];
      if (action !== 'private')
        this.#problem(path, 'only what is encrypted can be authenticated', 'action = "private"');
      if (users !== undefined || cgroups !== undefined)
        this.#problem(path, 'proofs are demanded by network and port', 'take "user" and "cgroup" out');
      const lacks = missing(authenticate, authentication);
      if (lacks !== undefined)
        this.#problem(path, `a ${authenticate} could not be checked`, `add "${lacks}" to [authentication]`);
      const before = rules.findIndex(
        (rule, j) =>
          j < i &&
          rule.action === 'private' &&
          (rule.users ?? rule.cgroups) !== undefined &&
          rule.directions.some((direction) => directions.includes(direction)),
      );
      if (before >= 0)
        this.#problem(
          ['rule', before],
          `whether this rule or rule ${i + 1}, which demands a proof, applies is not known when it is to be proved`,
          `put it behind rule ${i + 1}`,
        );
    });
  }

  #networks(texts: readonly string[], path: Path): Network[] {
    return texts.flatMap((text) => {
      const network = parseNetwork(text);
      if (network !== undefined) return [network];
      this.#problem(
        path,
        `"${text}" is not a network`,
        'an address with or without prefix length, e.g. "10.0.0.0/8"',
      );
      return [];
    });
  }

  #ports(ports: readonly (string | number)[], path: Path): PortRange[] {
    return merged(
      ports.flatMap((port): PortRange[] => {
        const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(port)) ?? [];
        const range: PortRange = [Number(first), Number(last)];
        if (range[0] >= 1 && range[0] <= range[1] && range[1] <= 0xffff) return [range];
        this.#problem(
          path,
          `${JSON.stringify(port)} is not a port`,
          '1 to 65535, or a range such as "6000-6010"',
        );
        return [];
      }),
    );
  }

  #cgroups(paths: readonly string[], path: Path): string[] {
    return paths.flatMap((cgroup) => {
      const normal =
        /^(?:\/[^/"\p{Cc}]+)+$/u.test(cgroup) && !cgroup.split('/').some((part) => /^\.\.?$/.test(part));
      if (normal) return [cgroup];
      this.#problem(path, `${JSON.stringify(cgroup)} is not a cgroup`, WANTED.cgroup ?? '');
      return [];
    });
  }

  #users(users: readonly (string | number)[], path: Path): User[] {
    return users.flatMap((user) => {
      const uid = uidOf(String(user));
      if (uid !== undefined) return [{ name: String(user), uid }];
      this.#problem(path, `there is no user ${JSON.stringify(user)}`, 'getent passwd lists them');
      return [];
    });
  }

  /** Rules after one that matches everything. */
  #noteUnreachable(rules: readonly Rule[]): void {
    const decided = new Map<Direction, number>();
    rules.forEach((rule, i) => {
      const before = rule.directions.map((direction) => decided.get(direction));
      const by = before.find((index) => index !== undefined);
      if (by !== undefined && !before.includes(undefined))
        this.#note(
          ['rule', i],
          `rule ${i + 1} is never asked`,
          `rule ${by + 1} before it matches everything`,
        );
      const { networks, ports, localPorts, cgroups, users } = rule;
      if ([networks, ports, localPorts, cgroups, users].every((part) => part === undefined))
        for (const direction of rule.directions) if (!decided.has(direction)) decided.set(direction, i);
    });
  }

  #problem(path: Path, problem: string, remedy: string): void {
    this.#problems.push({ line: lineOf(this.#text, path), problem, remedy });
  }

  #note(path: Path, problem: string, remedy: string): void {
    this.#notes.push({ line: lineOf(this.#text, path), problem, remedy });
  }
}

const LOOPBACK = ['127.0.0.0/8', '::1'].flatMap((text) => parseNetwork(text) ?? []);
const isStrict = (action: PolicyAction): boolean => action === 'private' || action === 'block';
const isEncrypting = (action: PolicyAction): boolean => action === 'private' || action === 'private-or-clear';
const directionsOf = (direction: Direction | 'both'): Direction[] =>
  direction === 'both' ? ['outbound', 'inbound'] : [direction];
const list = <Item>(value: Item | Item[]): Item[] => (Array.isArray(value) ? value : [value]);

const withoutUndefined = (
  value: Partial<Record<Direction, PolicyAction | undefined>>,
): Partial<Policy['default']> =>
  Object.fromEntries(Object.entries(value).filter(([, action]) => action !== undefined));
