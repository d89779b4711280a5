/** `tcpcrypt connect HOST PORT`: netcat with encryption. */
import type { Command } from 'commander';
import { connect } from '../socket/connect.js';
import { parseUsedPort, parseWord } from './arguments.js';
import {
  type AuthenticationFlags,
  addAuthenticationFlags,
  authenticationOptions,
} from './authentication-flags.js';
import { ConnectionReport, endpoint } from './connection-report.js';
import { addEncryptionFlags, type EncryptionFlags, encryptionOptions } from './encryption-flags.js';
import { joinStdio } from './stdio.js';

export function register(program: Command): void {
  const command = program
    .command('connect')
    .summary('open a connection; stdin and stdout are its two directions')
    .description('Open a connection, send what comes from stdin, print what comes back.')
    .argument('<host>', 'name or address', parseWord)
    .argument('<port>', 'TCP port', parseUsedPort)
    .addHelpText(
      'after',
      `
The end of stdin ends our direction; the command ends when the peer has ended its own.
Exit status: 0 when both directions ended in order, 1 otherwise, 130 after Ctrl-C.`,
    );
  addAuthenticationFlags(addEncryptionFlags(command), '"HOST:PORT"').action(
    (host: string, port: number, flags: EncryptionFlags & AuthenticationFlags) => {
      const socket = connect({
        host,
        port,
        allowHalfOpen: true,
        ...encryptionOptions(flags),
        ...authenticationOptions(flags, endpoint(host, port)),
      });
      const report = new ConnectionReport(socket, flags.json ?? false);
      joinStdio(socket);
      process.exitCode = 1; // until we know better
      socket.once('close', () => {
        process.stdin.destroy();
        if (report.outcome === 'end') process.exitCode = 0;
      });
      process.once('SIGINT', () => {
        process.exitCode = 130;
        socket.resetAndDestroy();
      });
    },
  );
}
