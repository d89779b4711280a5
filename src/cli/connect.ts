/** `tcpcrypt connect HOST PORT`: netcat with encryption. */
import type { Command } from 'commander';
import { connect } from '../socket/connect.js';
import { ConnectionReport } from './connection-report.js';
import {
  addEncryptionFlags,
  type EncryptionFlags,
  encryptionOptions,
  parsePort,
} from './encryption-flags.js';

export function register(program: Command): void {
  const command = program
    .command('connect')
    .description('Open a connection, send stdin, print what comes back.')
    .argument('<host>', 'name or address')
    .argument('<port>', 'TCP port', parsePort)
    .addHelpText('after', '\nExit status: 0 when both directions ended in order, 1 otherwise.');
  addEncryptionFlags(command).action((host: string, port: number, flags: EncryptionFlags) => {
    const socket = connect({ host, port, allowHalfOpen: true, ...encryptionOptions(flags) });
    const report = new ConnectionReport(socket, flags.json ?? false);
    process.stdin.pipe(socket);
    socket.pipe(process.stdout);
    socket.on('error', () => {});
    socket.once('close', () => {
      process.stdin.destroy();
      process.exitCode = report.outcome === 'end' ? 0 : 1;
    });
    process.once('SIGINT', () => {
      socket.resetAndDestroy();
      process.exitCode = 130;
    });
  });
}
