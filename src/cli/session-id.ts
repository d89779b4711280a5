/** `tcpcrypt session-id`: the session ID of somebody's connection, for scripts and for people who compare. */
import { type Command, InvalidArgumentError } from 'commander';
import { TcpcryptError } from '../errors.js';
import { CarriedConnections, type CarriedFacts, type Tuple, type TupleEnd } from '../kernel/carried.js';
import { type ConnectionFacts, connectionFacts, factsOf } from '../kernel/eno-facts.js';
import { socketDescriptors, withForeignSocket } from '../kernel/foreign-socket.js';
import { defaultPins } from '../kernel/pins.js';
import { addressBytes } from '../kernel/sockaddr.js';
import { netnsCookie, TruePeers } from '../kernel/true-peer.js';
import { parseWord } from './arguments.js';
import { FAILURE, print } from './report.js';

interface Flags {
  readonly pid?: number;
  readonly fd?: number;
  readonly tuple?: readonly string[];
  readonly pins?: string;
  readonly json?: boolean;
}

type Row = ConnectionFacts & {
  readonly pid?: number;
  readonly fd?: number;
  readonly local: string;
  readonly remote: string;
};

export function register(program: Command): void {
  program
    .command('session-id')
    .summary("the session ID of a program's connection")
    .description(
      "The session ID of a program's connection: what getsockopt(TCP_ENO_SESSID) tells that program itself.",
    )
    .option('--pid <pid>', 'all connections of this process', parseNumber)
    .option('--fd <number>', '... or only this descriptor of it', parseNumber)
    .option('--tuple <local> <remote>', 'a connection that the daemon carries, by its two "address:port"')
    .option(
      '--pins <dir>',
      'for --tuple: where the kernel part is kept (default: /sys/fs/bpf/tcpcrypt/v1)',
      parseWord,
    )
    .option('--json', 'print the result as JSON: one object, or with --pid alone an array')
    .allowExcessArguments(true)
    .addHelpText(
      'after',
      `
  tcpcrypt session-id --pid 4711             one line for each of its connections
  tcpcrypt session-id --pid 4711 --fd 5      the session ID alone, in hexadecimal
  tcpcrypt session-id --tuple 10.0.0.1:40123 10.0.0.2:5432

--pid is for processes of one's own, and for root; --tuple for root, in the network namespace of the program. It takes
the addresses as the program sees them, or as ss shows them. IPv6 addresses stand in brackets: [fd00::1]:80.
The ID is equal at both ends if and only if nobody sits in the middle.
Exit status: 0 when there is one, 1 when there is none (the connection is plain, or still being negotiated) or it
cannot be found out, 2 for a mistake in the command line.`,
    )
    .action((flags: Flags, command: Command) => run({ ...flags, ...tupleOf(flags, command) }));
}

/** Commander gives an option one value; the second address is an argument for it. */
function tupleOf(flags: Flags, command: Command): { tuple?: readonly string[] } {
  const first = flags.tuple as unknown as string | undefined;
  if (first === undefined) {
    if (command.args.length > 0) throw wrong(`too many arguments: ${command.args.join(' ')}`);
    return {};
  }
  return { tuple: [first, ...command.args] };
}

function run(flags: Flags): void {
  const { pid, fd, tuple, json } = flags;
  if ((pid === undefined) === (tuple === undefined)) throw wrong('either --pid or --tuple');
  if (fd !== undefined && pid === undefined) throw wrong('--fd goes with --pid');
  if (tuple !== undefined) one(ofTuple(tuple, flags.pins), json);
  else if (pid !== undefined && fd !== undefined) one(ofDescriptor(pid, fd), json);
  else if (pid !== undefined) all(ofProcess(pid), json);
}

function one(row: Row, json: boolean | undefined): void {
  if (row.sessionId === undefined) {
    if (json) {
      print(json, row, '');
      process.exitCode = FAILURE;
      return;
    }
    throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION', {
      detail: `${row.local} ${row.remote}: ${row.state}`,
    });
  }
  print(json, row, row.sessionId);
}

function all(rows: readonly Row[], json: boolean | undefined): void {
  const lines = rows.map(({ fd, local, remote, sessionId, state }) =>
    [fd, local, remote, sessionId ?? `(${state})`].join('  '),
  );
  print(json, rows, lines.join('\n') || 'no TCP connections');
  if (!rows.some(({ sessionId }) => sessionId !== undefined)) process.exitCode = FAILURE;
}

function ofDescriptor(pid: number, fd: number): Row {
  const row = rowOf(pid, fd);
  if (row === undefined) throw wrong(`descriptor ${fd} of process ${pid} is no connected TCP socket`);
  return row;
}

function ofProcess(pid: number): Row[] {
  return socketDescriptors(pid).flatMap((fd) => {
    try {
      return rowOf(pid, fd) ?? [];
    } catch (error) {
      // It was closed while we looked.
      if (error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_ARGUMENT') return [];
      throw error;
    }
  });
}

const rowOf = (pid: number, fd: number): Row | undefined =>
  withForeignSocket(pid, fd, (ours, { local, remote }) =>
    remote === undefined
      ? undefined
      : { pid, fd, local: endText(local), remote: endText(remote), ...connectionFacts(ours) },
  );

function ofTuple(tuple: readonly string[], pins = defaultPins()): Row {
  const [first, second, ...more] = tuple;
  if (first === undefined || second === undefined || more.length > 0)
    throw wrong('--tuple takes two: LOCAL REMOTE');
  const wanted = { local: parseEnd(first), remote: parseEnd(second) };
  const carried = new CarriedConnections(pins);
  const peers = new TruePeers(pins);
  const found = carried.find(wanted) ?? behindRelay(carried, peers, wanted);
  if (found === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION', {
      detail: `the daemon carries no connection ${first} ${second} here; of programs that speak tcpcrypt themselves, ask with --pid`,
    });
  return { local: endText(wanted.local), remote: endText(wanted.remote), ...factsOf(found) };
}

/** A server sees its client's own port; on this machine the connection has another one. */
function behindRelay(carried: CarriedConnections, peers: TruePeers, wanted: Tuple): CarriedFacts | undefined {
  const netns = netnsCookie();
  for (const tuple of carried.all()) {
    if (!same(tuple.local, wanted.local)) continue;
    const real = peers.get(netns, tuple.remote.address, tuple.remote.port);
    if (real !== undefined && same(real, wanted.remote)) return carried.find(tuple);
  }
  return undefined;
}

const same = (a: TupleEnd, b: TupleEnd): boolean =>
  a.port === b.port && addressBytes(a.address).equals(addressBytes(b.address));

const endText = ({ address, port }: TupleEnd): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

function parseEnd(text: string): TupleEnd {
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const address = v6 ?? v4;
  if (address === undefined || Number(port) > 65_535)
    throw wrong(`not an address and a port: ${text} (10.0.0.1:80, [fd00::1]:80)`);
  addressBytes(address); // refuses what is no address
  return { address, port: Number(port) };
}

function parseNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('a number');
  return Number(text);
}

const wrong = (detail: string): TcpcryptError => new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail });
