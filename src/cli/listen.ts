/** `tcpcrypt listen [ADDR] PORT`: the other end of `tcpcrypt connect`. */
import type { Command } from 'commander';
import { createServer } from '../socket/server.js';
import type { Socket } from '../socket/socket.js';
import { parsePort, parseWord } from './arguments.js';
import {
  type AuthenticationFlags,
  addAuthenticationFlags,
  authenticationOptions,
} from './authentication-flags.js';
import { ConnectionReport, endpoint, line, reportFailure, say } from './connection-report.js';
import { addEncryptionFlags, type EncryptionFlags, encryptionOptions } from './encryption-flags.js';
import { joinStdio } from './stdio.js';

interface Flags extends EncryptionFlags, AuthenticationFlags {
  readonly echo?: boolean;
  readonly keepOpen?: boolean;
}

export function register(program: Command): void {
  const command: Command = program
    .command('listen')
    .summary('wait for a connection; stdin and stdout are its two directions')
    .description('Wait for a connection, send what comes from stdin, print what comes in.')
    // Both optional: to commander, with one word alone, the first one is there and the second one missing.
    .argument('[address]', 'local address; all of them when left out', parseWord)
    .argument('[port]', 'TCP port; 0 for any')
    .usage('[options] [address] <port>')
    .option('--echo', 'send back what comes in, instead of using stdin and stdout')
    .option('--keep-open', 'go on with the next connection instead of ending after the first')
    .addHelpText(
      'after',
      `
Exit status: 0 when both directions ended in order, 1 otherwise, 130 after Ctrl-C.`,
    );
  addAuthenticationFlags(addEncryptionFlags(command), "the peer's address").action((...args: unknown[]) => {
    const [first, second] = args as [string | undefined, string | undefined];
    const [host, word] = second === undefined ? [undefined, first] : [first, second];
    if (word === undefined) command.error("error: missing required argument 'port'");
    listen(host, portOf(word, command), command.opts<Flags>());
  });
}

function portOf(word: string, command: Command): number {
  try {
    return parsePort(word);
  } catch (error) {
    return command.error(`error: ${(error as Error).message}`);
  }
}

function listen(host: string | undefined, port: number, flags: Flags): void {
  const { json = false, keepOpen = false, echo = false } = flags;
  const sockets = new Set<Socket>();
  const options = { allowHalfOpen: true, ...encryptionOptions(flags), ...authenticationOptions(flags) };
  const server = createServer(options, (socket) => {
    sockets.add(socket);
    const report = new ConnectionReport(socket, json);
    socket.once('close', () => {
      sockets.delete(socket);
      if (keepOpen) return;
      process.stdin.destroy();
      if (report.outcome === 'end') process.exitCode = 0;
    });
    if (!keepOpen) {
      server.close();
      process.exitCode = 1; // until we know better
    }
    if (echo) socket.pipe(socket);
    else joinStdio(socket);
  });
  server.on('clientError', (error: Error, socket: Socket) => {
    reportFailure(error, json, endpoint(socket.remoteAddress, socket.remotePort));
  });
  server.once('error', (error: Error) => {
    reportFailure(error, json);
    process.exitCode = 1;
  });
  server.listen({ port, ...(host === undefined ? {} : { host }) }, () => {
    const bound = server.address();
    if (bound === null) return;
    if (json) line({ event: 'listening', address: bound.address, port: bound.port });
    else say(`listening on ${bound.address} port ${bound.port}`);
  });
  process.once('SIGINT', () => {
    process.exitCode = 130;
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
    process.stdin.destroy();
  });
}
