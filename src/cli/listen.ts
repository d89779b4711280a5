/** `tcpcrypt listen [ADDR] PORT`: the other end of `tcpcrypt connect`. */
import type { AddressInfo } from 'node:net';
import type { Command } from 'commander';
import { createServer } from '../socket/server.js';
import type { Socket } from '../socket/socket.js';
import { ConnectionReport } from './connection-report.js';
import {
  addEncryptionFlags,
  type EncryptionFlags,
  encryptionOptions,
  parsePort,
} from './encryption-flags.js';

interface Flags extends EncryptionFlags {
  readonly echo?: boolean;
  readonly keepOpen?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('listen')
    .description('Wait for a connection, send stdin, print what comes in.')
    // commander wants required arguments first: with one word alone, that word is the port.
    .argument('<address>', 'local address; all of them when left out')
    .argument('[port]', 'TCP port; 0 for any')
    .usage('[options] [address] <port>')
    .option('--echo', 'send back what comes in, instead of using stdin and stdout')
    .option('--keep-open', 'go on with the next connection instead of ending after the first');
  addEncryptionFlags(command).action((...args: unknown[]) => {
    const [first, second] = args as [string, string | undefined];
    const flags = command.opts<Flags>();
    const [host, port] = second === undefined ? [undefined, parsePort(first)] : [first, parsePort(second)];
    listen(host, port, flags);
  });
}

function listen(host: string | undefined, port: number, flags: Flags): void {
  const json = flags.json ?? false;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, ...encryptionOptions(flags) }, (socket) => {
    sockets.add(socket);
    const report = new ConnectionReport(socket, json);
    socket.on('error', () => {});
    socket.once('close', () => {
      sockets.delete(socket);
      if (flags.keepOpen) return;
      process.exitCode = report.outcome === 'end' ? 0 : 1;
      process.stdin.destroy();
    });
    if (!flags.keepOpen) server.close();
    if (flags.echo) {
      socket.pipe(socket);
    } else {
      process.stdin.pipe(socket);
      socket.pipe(process.stdout, { end: false });
    }
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const remote = `${socket.remoteAddress}:${socket.remotePort}`;
    process.stderr.write(
      json
        ? `${JSON.stringify({ event: 'end', remote, how: error.code ?? 'unknown', message: error.message })}\n`
        : `tcpcrypt: refused ${remote}: ${error.message} [${error.code}]\n`,
    );
  });
  server.once('error', (error: NodeJS.ErrnoException) => {
    process.stderr.write(`tcpcrypt: ${error.message} [${error.code}]\n`);
    process.exitCode = 1;
  });
  server.listen({ port, ...(host === undefined ? {} : { host }) }, () => {
    const { address, port: bound } = server.address() as AddressInfo;
    process.stderr.write(
      json
        ? `${JSON.stringify({ event: 'listening', address, port: bound })}\n`
        : `tcpcrypt: listening on ${address} port ${bound}\n`,
    );
  });
  process.once('SIGINT', () => {
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
    process.stdin.destroy();
    process.exitCode = 130;
  });
}
