/**
 * The file of known hosts: trust on first use. One line per host, written by us and editable by hand:
 *
 *     # comments and empty lines stay
 *     example.org:6379 ed25519 9cEk…= 2025-11-22
 *
 * A host may have several lines, for a new key beside the old one: any of them will do.
 * The file is replaced as a whole (write, fsync, rename), under a lock file, so that it is never seen half written
 * and two first uses at once lose none.
 */
import { timingSafeEqual } from 'node:crypto';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { isIPv6, SocketAddress } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TcpcryptError } from '../errors.js';
import { check } from './check.js';
import { fingerprint, type KeyTrust } from './known-key.js';

/** Options of {@link knownHosts}. */
export interface KnownHostsOptions {
  readonly file: string;
  /**
   * What we connect to, e.g. 'example.org:6379': the name under which the key is remembered. No blanks. Default: the
   * peer's address, also for whoever is called.
   */
  readonly host?: string;
  /** What to do with a host that is not in the file: remember its key ('accept', default), or refuse. */
  readonly firstUse?: 'accept' | 'refuse';
  /** Told when a key is remembered for the first time: show it to people, who may compare it. */
  readonly onFirstUse?: (host: string, fingerprint: string) => void;
}

/** Tuned by us. */
const FILE_LIMIT = 1024 * 1024;
const HOST_LIMIT = 270;
const LOCK_TRIES = 100;
const LOCK_PAUSE = 20;
const LOCK_STALE = 10_000;

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function knownHosts(options: KnownHostsOptions): KeyTrust {
  const { file, firstUse = 'accept', onFirstUse } = options;
  const named = options.host;
  check(
    named === undefined || (/^[^\s#]+$/.test(named) && named.length <= HOST_LIMIT),
    `knownHosts: host ${JSON.stringify(named)}`,
  );
  return {
    async check(key, remoteAddress) {
      const host = named ?? remoteAddress?.replace(/^::ffff:(?=\d+\.)/i, '');
      if (host === undefined)
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_KEY_UNKNOWN', { detail: 'the peer has no address' });
      const known = linesOf(await read(file), host);
      if (known.length > 0) return matching(known, key, file, host);
      const print = fingerprint(key);
      if (firstUse === 'refuse') {
        throw new TcpcryptError('ERR_TCPCRYPT_AUTH_KEY_UNKNOWN', {
          detail: `${host} is not in ${file}; its key has the fingerprint ${print}; if that is right, add the line "${host} ed25519 ${key.toString('base64')}"`,
        });
      }
      const isNew = await locked(file, async () => {
        const contents = await read(file);
        // Somebody else may have been first.
        const meanwhile = linesOf(contents, host);
        if (meanwhile.length === 0) await replace(file, appended(contents, host, key));
        else matching(meanwhile, key, file, host);
        return meanwhile.length === 0;
      });
      if (isNew) onFirstUse?.(host, print);
      return host;
    },
  };
}

interface Line {
  readonly number: number;
  readonly key: Buffer;
}

function matching(lines: readonly Line[], key: Buffer, file: string, host: string): string {
  if (lines.some((line) => timingSafeEqual(line.key, key))) return host;
  const known = lines.map((line) => `${fingerprint(line.key)} (${file}, line ${line.number})`).join(' or ');
  throw new TcpcryptError('ERR_TCPCRYPT_AUTH_KEY_CHANGED', {
    detail:
      `${host} was ${known}, now it is ${fingerprint(key)}; ` +
      'if you know that this is right, delete the line',
  });
}

/** @throws ERR_TCPCRYPT_AUTH_KNOWN_HOSTS when a line of that host is not understood */
function linesOf(contents: string, host: string): Line[] {
  return contents.split('\n').flatMap((line, index) => {
    const [name, type, encoded] = line.trim().split(/\s+/);
    if (name === undefined || canonical(name) !== canonical(host)) return [];
    const key = Buffer.from(encoded ?? '', 'base64');
    if (type !== 'ed25519' || key.length !== 32) throw unusable(`line ${index + 1} is not understood`);
    return [{ number: index + 1, key }];
  });
}

/** An IPv6 address has many spellings. */
const canonical = (host: string): string =>
  isIPv6(host) && !host.includes('%') ? new SocketAddress({ address: host, family: 'ipv6' }).address : host;

function appended(contents: string, host: string, key: Buffer): string {
  const before = contents === '' || contents.endsWith('\n') ? contents : `${contents}\n`;
  const date = new Date().toISOString().slice(0, 10);
  const after = `${before}${host} ed25519 ${key.toString('base64')} ${date}\n`;
  if (after.length > FILE_LIMIT) throw unusable(`larger than ${FILE_LIMIT} bytes`);
  return after;
}

async function read(file: string): Promise<string> {
  try {
    if ((await stat(file)).size > FILE_LIMIT) throw unusable(`larger than ${FILE_LIMIT} bytes`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return '';
    throw error instanceof TcpcryptError ? error : unusable(String(error), error);
  }
}

async function replace(file: string, contents: string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.writeFile(contents);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw unusable(String(error), error);
  }
}

/** Runs `work` while `<file>.lock` is ours. A lock that is older than 10 seconds belongs to a dead process. */
async function locked<Result>(file: string, work: () => Promise<Result>): Promise<Result> {
  const lock = `${file}.lock`;
  for (let round = 0; ; round++) {
    try {
      await (await open(lock, 'wx', 0o600)).close();
      break;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || round === LOCK_TRIES) throw unusable(String(error), error);
      const age = await stat(lock).then(
        ({ mtimeMs }) => Date.now() - mtimeMs,
        () => 0,
      );
      if (age > LOCK_STALE) await rm(lock, { force: true });
      else await sleep(LOCK_PAUSE);
    }
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

const codeOf = (error: unknown): unknown => (error as NodeJS.ErrnoException | undefined)?.code;

const unusable = (detail: string, cause?: unknown): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_AUTH_KNOWN_HOSTS', { detail, cause });
