/** Arguments and values of options, as commander wants them parsed: whoever writes another word made a mistake in the command line. */
import { isIP } from 'node:net';
import { InvalidArgumentError } from 'commander';

/** 0 stands for any port. */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65535) throw new InvalidArgumentError(`"${text}" is not a TCP port.`);
  return port;
}

/** The port of a connection. */
export function parseUsedPort(text: string): number {
  if (parsePort(text) === 0) throw new InvalidArgumentError('ports of connections are from 1 to 65535.');
  return Number(text);
}

export function parseAddress(text: string): string {
  if (isIP(text) === 0 || text.includes('%'))
    throw new InvalidArgumentError('an IP address: 10.1.2.3, fd00::1.');
  return text;
}

/** A word, a path, a name: anything but nothing. */
export function parseWord(text: string): string {
  if (text === '') throw new InvalidArgumentError('it is empty.');
  if (text.includes('\0')) throw new InvalidArgumentError('it contains a zero byte.');
  return text;
}
