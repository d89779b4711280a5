#!/usr/bin/env node
/** The command `tcpcrypt`. One file per command; each registers itself. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import * as connect from './connect.js';
import * as connections from './connections.js';
import * as daemon from './daemon.js';
import * as demo from './demo.js';
import * as doctor from './doctor.js';
import * as down from './down.js';
import * as hostKey from './host-key.js';
import * as listen from './listen.js';
import * as paths from './paths.js';
import * as policy from './policy.js';
import * as reload from './reload.js';
import { fail } from './report.js';
import * as resumption from './resumption.js';
import * as run from './run.js';
import * as sessionId from './session-id.js';
import * as status from './status.js';
import * as up from './up.js';

const packageJson = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('tcpcrypt')
  .description('Encrypt TCP connections with every host that can, and leave the others as they are.')
  .version(packageJson.version)
  .showHelpAfterError('(tcpcrypt --help lists the commands)')
  .enablePositionalOptions()
  .exitOverride();

up.register(program);
down.register(program);
doctor.register(program);
daemon.register(program);
status.register(program);
connections.register(program);
sessionId.register(program);
paths.register(program);
resumption.register(program);
reload.register(program);
policy.register(program);
run.register(program);
connect.register(program);
listen.register(program);
hostKey.register(program);
demo.register(program);

// `tcpcrypt … | head`: whoever took our output has enough. What must be cleaned up is cleaned up all the same.
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

try {
  await program.parseAsync();
} catch (error) {
  fail(error, jsonOutput());
}

/** Also where the command line is wrong and no command was run. To `connect` and `listen`, stdout is the connection. */
function jsonOutput(): NodeJS.WritableStream | undefined {
  const [command = '', ...rest] = process.argv.slice(2);
  const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (command === 'run' || !own.includes('--json')) return undefined;
  return command === 'connect' || command === 'listen' ? process.stderr : process.stdout;
}
