/** `tcpcrypt daemon`: encrypts the connections of unmodified programs on this host. */
import { existsSync, unlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { pino } from 'pino';
import { MAX_CONNECTIONS, MAX_HELD } from '../daemon/capacity.js';
import { Control } from '../daemon/control/control.js';
import { type MetricsPlace, metricsPlace, type ReadyPlace } from '../daemon/control/metrics-place.js';
import {
  defaultControlPath,
  openControlSocket,
  removeSocketsScript,
  sweepControlSockets,
} from '../daemon/control/place.js';
import { Daemon, DEFAULT_QUEUE } from '../daemon/daemon.js';
import { checkKnownHosts, makeKnownHostsDirectory } from '../daemon/known-hosts-file.js';
import { checkReadable, daemonUser, leaveRoot } from '../daemon/least-privilege.js';
import { notify } from '../daemon/notify.js';
import { BUILT_IN, ONLY_COMMANDS, type Policy, withClearPorts } from '../daemon/policy/policy.js';
import { DEFAULT_POLICY_FILE, loadPolicy } from '../daemon/policy/policy-file.js';
import { TcpcryptError } from '../errors.js';
import { Guard } from '../kernel/guard.js';
import { lockNamespace } from '../kernel/namespace-lock.js';
import { checkShareCount, largestShareCount } from '../kernel/shares.js';
import { parseWord } from './arguments.js';
import { addNegotiationFlags, type NegotiationFlags, negotiationOptions } from './encryption-flags.js';
import { logDestination } from './log-destination.js';

interface Flags extends NegotiationFlags {
  readonly queue: number;
  readonly policy?: string;
  readonly except: number[];
  readonly onlyCommands?: boolean;
  readonly drain: number;
  readonly logLevel: string;
  readonly pins?: string;
  readonly control?: string;
  readonly metrics?: MetricsPlace;
  readonly user?: string;
  readonly maxConnections: number;
  readonly maxHeld: number;
  readonly workers: number;
}

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));
const COURIER = fileURLToPath(new URL('./map-courier.js', import.meta.url));
/** EX_TEMPFAIL, sysexits.h: whoever watches over the daemon starts the next one. */
const TO_BE_RESTARTED = 75;

export function register(program: Command): void {
  addNegotiationFlags(program.command('daemon'))
    .description('Encrypt the connections of all programs on this host, without their knowledge.')
    .option(
      '--policy <file>',
      `which connections to encrypt (default: ${DEFAULT_POLICY_FILE}, if it is there)`,
      parseWord,
    )
    .option(
      '--except <ports>',
      'ports to leave alone, before all rules, with commas, e.g. 25,6379',
      parsePorts,
      [],
    )
    .addOption(new Option('--only-commands', 'for "tcpcrypt run": leave everything else alone').hideHelp())
    .option('--queue <number>', 'NFQUEUE number, where another program uses ours', parseQueue, DEFAULT_QUEUE)
    .option('--drain <seconds>', 'on stop, how long relayed connections may go on', parseDrain, 2)
    .option(
      '--pins <directory>',
      'where "tcpcrypt up" pinned its maps, if not in the default place',
      parseWord,
    )
    .option(
      '--control <path>',
      'the socket for "tcpcrypt status" (default: /run/tcpcrypt/net-<inode>.sock)',
      parseWord,
    )
    .option(
      '--metrics <place>',
      'serve Prometheus metrics: a loopback address with port (127.0.0.1:9569), or the path of a socket',
      metricsPlace,
    )
    .option(
      '--max-connections <n>',
      'relayed at once; above it, new ones stay plain',
      parseCount,
      MAX_CONNECTIONS,
    )
    .option(
      '--max-held <n>',
      'waiting for the far host at once; above it, new ones stay plain',
      parseCount,
      MAX_HELD,
    )
    .option(
      '--workers <n>',
      'processes that share the work: 1, 2, 4, 8 or 16, or "auto": as many as the machine has processors for',
      parseWorkers,
      1,
    )
    .option(
      '--user <name>',
      'who to be once everything is set up (default: tcpcrypt, or else nobody)',
      parseWord,
    )
    .addOption(
      new Option('--log-level <level>', 'debug: two lines for every connection')
        .choices(['error', 'info', 'debug'])
        .default('info'),
    )
    .addHelpText(
      'after',
      `
Needs root to begin with, and "tcpcrypt up" before it. Goes on as another user, with CAP_NET_ADMIN only. Logs JSON lines on stdout; a line with "event":"ready" says that it works.
SIGHUP, or "tcpcrypt reload", makes it read the policy anew: connections go on, and a file with mistakes changes nothing.
SIGUSR2 makes it log what it has in hand, and counters.
Stop it with SIGTERM or Ctrl-C; for another one to take over, with SIGQUIT (exit status 75): what is "private" or
"block" stays refused until then. However it ends, new connections are plain TCP, and no firewall rule stays behind:
but for what the policy says is "private" or "block". After a kill -9 that is refused until "tcpcrypt down".`,
    )
    .action((flags: Flags) => run(flags));
}

async function run(flags: Flags): Promise<void> {
  const policy = flags.onlyCommands ? () => ONLY_COMMANDS : policySource(flags.policy);
  const logger = pino(
    { level: flags.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    logDestination(),
  );
  let stopping = false;
  let daemon: Daemon | undefined;
  let control: Control | undefined;
  let user: string | undefined;
  const controlPath = flags.control ?? defaultControlPath();
  // One daemon at a time in a network namespace: it would take the other's rules for leftovers.
  if (lockNamespace('daemon') === undefined) throw new TcpcryptError('ERR_TCPCRYPT_RUNNING');
  sweepControlSockets();
  const controlFd = openControlSocket(controlPath);
  const metrics = metricsSocket(flags.metrics, controlPath);
  // Whoever is not root any more cannot remove them.
  const metricsPath = flags.metrics !== undefined && 'path' in flags.metrics ? [flags.metrics.path] : [];
  const cleaner = new Guard(removeSocketsScript([controlPath, ...metricsPath]));
  const stop = async (reason: string, exitCode: number): Promise<void> => {
    if (stopping) return;
    stopping = true;
    logger.info({ event: 'stopping', reason }, 'stopping');
    notify('STOPPING=1');
    await daemon?.stop(flags.drain * 1000, exitCode === 0 ? 'asked' : 'failure');
    control?.close();
    await cleaner.run();
    logger.info({ event: 'stopped', ...(await daemon?.status()) }, 'stopped');
    process.exit(exitCode);
  };
  const becomeDaemonUser = ({ authentication = {} }: Policy): string => {
    makeKnownHostsDirectory(authentication, daemonUser(flags.user));
    const name = leaveRoot(flags.user);
    checkKnownHosts(authentication, name);
    return name;
  };
  const reload = async (): Promise<Policy> => {
    if (daemon === undefined) throw new TcpcryptError('ERR_TCPCRYPT_NOT_RUNNING');
    try {
      const policy = await daemon.reload();
      const { source, rules } = policy;
      logger.info({ event: 'reloaded', policy: source, rules: rules.length }, 'policy reloaded');
      return policy;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      logger.error({ event: 'reload-failed', code, error: message }, 'the former policy stays in force');
      throw error;
    }
  };
  try {
    if (flags.workers > 1) checkReadable(WORKER, flags.user);
    daemon = await Daemon.start({
      logger,
      queue: flags.queue,
      courier: COURIER,
      limits: { maxConnections: flags.maxConnections, maxHeld: flags.maxHeld },
      policy: () => withClearPorts(policy(), flags.except),
      ...negotiationOptions(flags),
      ...(flags.pins === undefined ? {} : { pins: flags.pins }),
      ...(flags.workers === 1
        ? {}
        : {
            workers: {
              count: flags.workers,
              program: WORKER,
              logLevel: flags.logLevel,
              leaveRoot: (policy) => {
                user = becomeDaemonUser(policy);
              },
            },
          }),
      onFailure: (error) => {
        logger.error({ event: 'failure', error: error.message }, 'cannot go on');
        void stop('failure', 1);
      },
    });
    control = await Control.start(daemon, {
      fd: controlFd,
      reload,
      ...(metrics === undefined ? {} : { metrics }),
    });
    user ??= becomeDaemonUser(daemon.policy);
  } catch (error) {
    control?.close();
    await daemon?.stop(0, 'failure');
    await cleaner.run();
    throw error;
  }
  // A mistake of ours must not leave connections hanging: they are reset, and new ones are plain TCP.
  process.on('uncaughtException', (error) => {
    logger.fatal({ event: 'failure', error: error.stack }, 'internal error');
    process.exit(1);
  });
  const tell = async (): Promise<void> =>
    logger.info({ event: 'status', ...(await daemon?.status()) }, 'status');
  process.on('SIGUSR2', () => void tell());
  // What goes wrong is in the log.
  process.on('SIGHUP', () => void reload().catch(() => {}));
  process.on('SIGTERM', () => void stop('SIGTERM', 0));
  process.on('SIGINT', () => void stop('SIGINT', 0));
  process.on('SIGQUIT', () => void stop('SIGQUIT', TO_BE_RESTARTED));
  const { source, rules } = daemon.policy;
  const count = flags.workers > 1 ? { workers: flags.workers } : {};
  logger.info({ event: 'ready', user, ...count, policy: source, rules: rules.length }, 'ready');
  notify('READY=1');
}

/**
 * The file named on the command line, or the usual one where there is one, or what is built in. A file that has been
 * used once must not vanish: what it forbids would be allowed.
 */
function policySource(named: string | undefined): () => Policy {
  let file = named;
  return () => {
    if (file === undefined && existsSync(DEFAULT_POLICY_FILE)) file = DEFAULT_POLICY_FILE;
    return file === undefined ? BUILT_IN : loadPolicy(file);
  };
}

function parseCount(text: string): number {
  if (!/^\d{1,7}$/.test(text) || Number(text) < 1) throw new InvalidArgumentError('a number from 1');
  return Number(text);
}

/** @throws InvalidArgumentError */
function parseDrain(text: string): number {
  if (!/^\d{1,6}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('seconds, from 0');
  return Number(text);
}

/** @throws InvalidArgumentError */
function parseWorkers(text: string): number {
  if (text === 'auto') return largestShareCount(availableParallelism());
  const count = /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN;
  try {
    checkShareCount(count);
  } catch {
    throw new InvalidArgumentError('1, 2, 4, 8, 16 or "auto"');
  }
  return count;
}

/** A socket by path has the same permissions as the control socket; without it, that goes again. */
function metricsSocket(place: MetricsPlace | undefined, controlPath: string): ReadyPlace | undefined {
  if (place === undefined || !('path' in place)) return place;
  try {
    return { fd: openControlSocket(place.path) };
  } catch (error) {
    unlinkSync(controlPath);
    throw error;
  }
}

function parsePorts(text: string): number[] {
  return text.split(',').map((port) => {
    if (!/^\d+$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
      throw new InvalidArgumentError(`not a port: ${port}`);
    }
    return Number(port);
  });
}

function parseQueue(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) > 65535) throw new InvalidArgumentError('a number from 0 to 65535');
  return Number(text);
}
