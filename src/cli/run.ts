/**
 * `tcpcrypt run -- COMMAND`: a policy for one command and its children.
 *
 *   <own cgroup>/tcpcrypt-run-<pid>/command   the command; the rules know it by this cgroup
 *                                  /daemon    a daemon for it, where the host has none
 *
 * The process becomes the command (execve), so its exit code, signals and terminal are the command's own. A shell that
 * is nobody's child waits until the cgroup is empty and then removes everything, also after kill -9.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { ask } from '../daemon/control/client.js';
import { defaultControlPath } from '../daemon/control/place.js';
import { cgroupLocation, kernelRules } from '../daemon/policy/kernel-rules.js';
import { BUILT_IN, type Policy, type PolicyAction } from '../daemon/policy/policy.js';
import { loadPolicy } from '../daemon/policy/policy-file.js';
import { TcpcryptError } from '../errors.js';
import { findCgroup, ownCgroup } from '../kernel/cgroup.js';
import {
  COMMAND_PREFIX,
  commandRules,
  lockCommand,
  noMoreCommands,
  removeCommandRules,
  sweepCommandRules,
} from '../kernel/command-rules.js';
import { kernelPartPresent } from '../kernel/eno-socket.js';
import { becomeCommand } from '../kernel/exec.js';
import { up } from '../kernel/install.js';
import { close } from '../kernel/libc.js';
import { lockNamespace } from '../kernel/namespace-lock.js';
import { defaultPins, readPins } from '../kernel/pins.js';
import { encryptsAnything } from '../kernel/policy-rules.js';
import { findUser } from '../kernel/privileges.js';
import { run as runTool } from '../kernel/tools.js';
import { parseWord } from './arguments.js';
import { fail } from './report.js';

interface Flags {
  readonly private?: boolean;
  readonly clear?: boolean;
  readonly policy?: string;
  readonly user?: string;
}

/** Milliseconds for a daemon to become ready. */
const PATIENCE = 20_000;
/** What a shell says when it cannot run a command. */
const CANNOT_RUN = 125;
const main = fileURLToPath(new URL('./main.js', import.meta.url));

export function register(program: Command): void {
  program
    .command('run')
    .summary('run one command under a policy of its own')
    .description(
      'Run a command whose connections, and those of its children, are encrypted if the other end can. Nothing else on\n' +
        'this host is affected, and nothing need be set up: where no daemon runs, one is started for the command.',
    )
    .addOption(new Option('--private', 'encrypted, or refused').conflicts(['clear', 'policy']))
    .addOption(new Option('--clear', 'never encrypted').conflicts(['policy']))
    .option('--policy <file>', 'by the rules of this file', parseWord)
    .option('--user <name>', 'as this user', parseWord)
    .argument('<command...>', 'the command and its arguments, after "--"')
    .passThroughOptions()
    .addHelpText(
      'after',
      `
Needs root. Exit status: the command's; 127 when there is no such command, 126 when it cannot be run, 125 when the
policy cannot be put in force (the command is not run then).
The rules are there for as long as the command or a child of it runs. With --private its connections are refused
should the daemon go.`,
    )
    .action(async (command: string[], flags: Flags) => {
      try {
        await run(command, flags);
      } catch (error) {
        fail(error);
        process.exitCode = CANNOT_RUN;
      }
    });
}

async function run(command: string[], flags: Flags): Promise<void> {
  if (process.geteuid?.() !== 0) throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION');
  const rules = kernelRules(policyOf(flags));
  const [file = '', ...args] = flags.user === undefined ? command : asUser(flags.user, command);
  sweepCommandRules();
  const { name, lock } = uniqueName();
  // Below our own, so that whoever manages us (a service manager, a container) manages the command as well.
  const root = findCgroup().path;
  const group = join(ownCgroup() ?? root, `tcpcrypt-run-${process.pid}`);
  const own = join(group, 'command');
  mkdirSync(own, { recursive: true });
  // From here on, whatever happens, everything is removed.
  const records = mkdtempSync(join(tmpdir(), `${name}-`));
  await detach(cleanUpScript(name, group, records), lock);
  close(lock);
  const location = cgroupLocation(relative(root, own));
  for (const deadline = Date.now() + PATIENCE; ; await sleep(100)) {
    const hasDaemon = daemonRuns();
    try {
      if (!hasDaemon && encryptsAnything(rules)) await startDaemon(group, records);
      runTool('nft', ['-f', '-'], commandRules(name, location, rules, hasDaemon || encryptsAnything(rules)));
      break;
    } catch (error) {
      // The daemon of an earlier command is about to end, or the host's own one, or another command's, not ready yet.
      const others = hasDaemon || (error as TcpcryptError).code === 'ERR_TCPCRYPT_RUNNING';
      if (!others || Date.now() > deadline) throw error;
    }
  }
  writeFileSync(join(own, 'cgroup.procs'), String(process.pid));
  const { code, reason } = becomeCommand(file, args);
  process.stderr.write(`tcpcrypt: cannot run "${file}": ${reason}\n`);
  process.exit(code);
}

function asUser(user: string, command: readonly string[]): string[] {
  const found = findUser(user);
  if (found === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `--user: there is no user "${user}"` });
  const groups = /^\d+$/.test(user) ? '--clear-groups' : '--init-groups';
  return ['setpriv', `--reuid=${user}`, `--regid=${found.gid}`, groups, '--', ...command];
}

function policyOf({ private: isPrivate, clear, policy }: Flags): Policy {
  if (policy !== undefined) return loadPolicy(policy);
  const all = (action: PolicyAction): Policy => ({
    source: `--${action}`,
    rules: [],
    exceptPorts: [],
    default: { outbound: action, inbound: action },
  });
  if (isPrivate) return all('private');
  return clear ? all('clear') : BUILT_IN;
}

/** Of the rules: process numbers alone may mean several, where network namespaces have several of theirs. */
function uniqueName(): { readonly name: string; readonly lock: number } {
  for (;;) {
    const name = `${COMMAND_PREFIX}${process.pid}_${randomBytes(3).toString('hex')}`;
    const lock = lockCommand(name);
    if (lock !== undefined) return { name, lock };
  }
}

/** Whether a daemon holds this network namespace. */
function daemonRuns(): boolean {
  const lock = lockNamespace('daemon');
  if (lock === undefined) return true;
  close(lock);
  return false;
}

/** A daemon that cares for nothing but commands that run under a policy; with a kernel part of its own if need be. */
async function startDaemon(group: string, records: string): Promise<void> {
  const place = join(group, 'daemon');
  mkdirSync(place, { recursive: true });
  const pins: string[] = [];
  // It may also be somebody else's, with pins that we do not know.
  if (!kernelPartPresent() || readPins(defaultPins()) === undefined) {
    const directory = join(dirname(defaultPins()), group.replace(/^.*\//, ''));
    writeFileSync(join(records, 'pins'), directory);
    up({ cgroup: group, pins: directory });
    pins.push('--pins', directory);
  }
  const log = openSync(join(records, 'log'), 'w');
  const script = 'echo 0 >"$0/cgroup.procs" && { setsid "$@" 3>&- & echo $! >&3; }';
  const pid = openSync(join(records, 'daemon'), 'w');
  const starter = spawn(
    '/bin/sh',
    ['-c', script, place, process.execPath, main, 'daemon', '--only-commands', ...pins],
    { stdio: ['ignore', log, log, pid] },
  );
  await new Promise((resolve) => starter.once('close', resolve));
  closeSync(log);
  closeSync(pid);
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    try {
      await ask(defaultControlPath(), 'status');
      return;
    } catch (error) {
      const ended = !/populated 1/.test(readFileSync(join(place, 'cgroup.events'), 'utf8'));
      if (Date.now() < deadline && !ended) {
        await sleep(50);
        continue;
      }
      const said = readFileSync(join(records, 'log'), 'utf8').trim().slice(-2000);
      if (said.includes('[ERR_TCPCRYPT_RUNNING]')) throw new TcpcryptError('ERR_TCPCRYPT_RUNNING');
      throw new TcpcryptError('ERR_TCPCRYPT_SYSTEM', {
        detail: `the daemon does not start: ${said}`,
        cause: error,
      });
    }
  }
}

/**
 * Starts a shell that is not our child, and that goes on when this process, or what it has become, lets go of a pipe.
 * @param lock a descriptor that it holds as long as it is there
 */
async function detach(script: string, lock: number): Promise<void> {
  const starter = spawn('/bin/sh', ['-c', 'setsid /bin/sh -c "$0" <&3 >/dev/null 2>&1 3<&- &', script], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', lock],
  });
  const pipe = starter.stdio[3];
  if (pipe !== null && pipe !== undefined && 'unref' in pipe) (pipe as import('node:net').Socket).unref();
  await new Promise((resolve) => starter.once('exit', resolve));
}

/** POSIX sh. */
const cleanUpScript = (name: string, group: string, records: string): string => `
PATH=\${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
trap '' INT TERM HUP
read -r _
populated() { grep -q 'populated 1' "$1/cgroup.events" 2>/dev/null; }
while populated '${group}/command'; do sleep 0.1; done
${removeCommandRules(name)}
rmdir '${group}/command'
if [ -d '${group}/daemon' ]; then
  pid=$(cat '${records}/daemon')
  if grep -qx "$pid" '${group}/daemon/cgroup.procs'; then
    # Other commands may have come to use our daemon.
${noMoreCommands()}
    kill -TERM "$pid"
  fi
  round=0
  while populated '${group}/daemon'; do
    round=$((round + 1))
    [ $round -gt 100 ] && for process in $(cat '${group}/daemon/cgroup.procs'); do kill -KILL "$process"; done
    sleep 0.1
  done
  [ -e '${records}/pins' ] && '${process.execPath}' '${main}' down --pins "$(cat '${records}/pins')"
  rmdir '${group}/daemon'
fi
rmdir '${group}'
rm -rf '${records}'
`;
