/** `tcpcrypt connections`: like `ss`, of what the daemon relays. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { ask } from '../daemon/control/client.js';
import type { ConnectionStatus } from '../daemon/control/protocol.js';
import { addressBytes } from '../kernel/sockaddr.js';
import { parseAddress, parseUsedPort, parseWord } from './arguments.js';
import { addControlFlags, type ControlFlags, controlPath, duration, size, table } from './control-flags.js';
import { type Program, programsOfSockets, socketKey } from './programs.js';

interface Flags extends ControlFlags {
  readonly direction?: 'outbound' | 'inbound';
  readonly state?: ConnectionStatus['state'];
  readonly port?: number;
  readonly address?: string;
  readonly program?: string;
  readonly session?: string;
  readonly wide?: boolean;
  /** Seconds; true: the default. */
  readonly watch?: number | true;
}

type Row = ConnectionStatus & { readonly program?: Program };

const WATCH_SECONDS = 2;

export function register(program: Command): void {
  addControlFlags(program.command('connections'))
    .summary('what the daemon relays, like ss')
    .description('The connections that the daemon relays, the oldest first.')
    .addOption(new Option('--direction <way>', 'only these').choices(['outbound', 'inbound']))
    .addOption(new Option('--state <state>', 'only these').choices(['secure', 'plain', 'handshake']))
    .option('--port <port>', 'only with this port, at either end', parseUsedPort)
    .option('--address <address>', 'only with this address, at either end', parseAddress)
    .option('--program <name>', 'only of this program, by name or process id', parseWord)
    .option('--session <hex>', 'only with a session ID that begins so', parseSession)
    .option('--wide', 'session IDs in full')
    .option('--watch [seconds]', 'again and again, until Ctrl-C', parseSeconds)
    .addHelpText(
      'after',
      `
For root and members of the group "tcpcrypt"; the programs of other users are shown to root only.
With --json, one array; with --json and --watch, one array a line.
The session ID is the same at both ends, if and only if nobody sits in the middle. PEER: who the other host has proved
to be, and how.`,
    )
    .action((flags: Flags) => run(flags));
}

async function run(flags: Flags): Promise<void> {
  const { watch } = flags;
  let once = watch === undefined;
  process.once('SIGINT', () => process.exit(watch === undefined ? 130 : 0));
  const clear = !once && process.stdout.isTTY && !flags.json ? '\x1b[2J\x1b[H' : '';
  for (;;) {
    const rows = await connections(flags);
    process.stdout.write(`${clear}${flags.json ? JSON.stringify(rows) : text(rows, flags)}\n`);
    if (once) return;
    await sleep((watch === true || watch === undefined ? WATCH_SECONDS : watch) * 1000);
    once = process.stdout.destroyed;
  }
}

async function connections(flags: Flags): Promise<Row[]> {
  const { items } = await ask(controlPath(flags), 'connections');
  const found = (items as ConnectionStatus[]).filter((connection) => matches(connection, flags));
  const programs = found.length === 0 ? new Map<string, Program>() : await programsOfSockets();
  return found
    .map((connection) => {
      const program = programs.get(socketKey(connection.local, connection.kernelRemote ?? connection.remote));
      return program === undefined ? connection : { ...connection, program };
    })
    .filter(
      ({ program }: Row) =>
        flags.program === undefined ||
        program?.name === flags.program ||
        String(program?.pid) === flags.program,
    );
}

function matches(
  { direction, state, local, remote, sessionId = '' }: ConnectionStatus,
  flags: Flags,
): boolean {
  const { address, port, session } = flags;
  const ends = [local, remote];
  return (
    (flags.direction === undefined || direction === flags.direction) &&
    (flags.state === undefined || state === flags.state) &&
    (port === undefined || ends.some((end) => end.endsWith(`:${port}`))) &&
    (address === undefined || ends.some((end) => addressOf(end).equals(addressBytes(address)))) &&
    (session === undefined || sessionId.startsWith(session))
  );
}

/** IPv4 is the same as IPv4-mapped, and an IPv6 address has many texts. */
const addressOf = (end: string): Buffer => addressBytes(end.replace(/^\[?(.*?)\]?:\d+$/, '$1'));

const HEAD = [
  'DIRECTION',
  'LOCAL',
  'REMOTE',
  'PROGRAM',
  'POLICY',
  'STATE',
  'TEP',
  'CIPHER',
  'RESUMED',
  'PEER',
  'SESSION ID',
  'RECEIVED',
  'SENT',
  'AGE',
];
const SHORT_ID = 16;

function text(rows: readonly Row[], { wide }: Flags): string {
  return table([
    HEAD,
    ...rows.map((row) => [
      row.direction,
      row.local,
      row.remote,
      row.program === undefined ? '-' : `${row.program.name}/${row.program.pid}`,
      row.policy,
      row.plainReason === undefined ? row.state : `plain: ${row.plainReason}`,
      row.tepName?.replace('TCPCRYPT_ECDHE_', '') ?? '-',
      row.cipherName ?? '-',
      row.resumed === undefined ? '-' : row.resumed ? 'yes' : 'no',
      row.peer === undefined ? '-' : `${row.peer.name} (${row.peer.mechanism})`.trimStart(),
      row.sessionId === undefined ? '-' : wide ? row.sessionId : `${row.sessionId.slice(0, SHORT_ID)}…`,
      size(row.bytesReceived),
      size(row.bytesSent),
      duration(row.seconds),
    ]),
  ]);
}

function parseSession(text: string): string {
  if (!/^[0-9a-f]{1,130}$/i.test(text)) throw new InvalidArgumentError('hexadecimal digits.');
  return text.toLowerCase();
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 86_400)) throw new InvalidArgumentError('seconds, from 0.1 to 86400');
  return seconds;
}
