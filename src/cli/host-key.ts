/** `tcpcrypt host-key`: the key by which this host proves who it is. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { makeHostKey, readHostKey } from '../auth/key-files.js';
import { fingerprint, rawPublicKey } from '../auth/known-key.js';
import { makeParents } from '../kernel/pins.js';
import { parseWord } from './arguments.js';
import { print } from './report.js';

const DEFAULT_HOST_KEY = '/etc/tcpcrypt/host_key';

interface Flags {
  readonly json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('host-key')
    .summary('the key by which this host proves who it is')
    .description(
      'Make or show the Ed25519 key by which this host proves who it is (docs/authentication.md).',
    );
  command
    .command('make')
    .description('Make the key, readable by its owner only, unless it is there already.')
    .argument('[file]', 'where it is kept', parseWord, DEFAULT_HOST_KEY)
    .option('--json', 'print a JSON line')
    .action((file: string, flags: Flags) => {
      makeParents(resolve(file));
      show(file, flags, makeHostKey(file) ? 'made' : 'was there already');
    });
  command
    .command('show')
    .description('Print its fingerprint, and the line for the file of known hosts on other hosts.')
    .argument('[file]', 'where it is kept', parseWord, DEFAULT_HOST_KEY)
    .option('--json', 'print a JSON line')
    .action((file: string, flags: Flags) => show(file, flags));
}

function show(file: string, { json }: Flags, what?: string): void {
  const key = rawPublicKey(readHostKey(file));
  const publicKey = key.toString('base64');
  const name = hostname();
  const value = { file, fingerprint: fingerprint(key), publicKey, ...(what === undefined ? {} : { what }) };
  const text = [
    `${file}${what === undefined ? '' : ` ${what}`}`,
    `fingerprint ${value.fingerprint}`,
    `for known hosts elsewhere, with the address for ${name}:`,
    `ADDRESS ed25519 ${publicKey}`,
  ];
  print(json, value, text.join('\n'));
}
