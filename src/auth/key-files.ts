/**
 * Files with our own secrets, for programs that are configured by files. Nobody but their owner may read them.
 *
 *     host key     Ed25519 private key, PEM (PKCS #8)
 *     shared key   all bytes of the file, without a line end at its end: 16 bytes or more
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { TcpcryptError } from '../errors.js';
import { SHARED_KEY_MIN } from './shared-key.js';

const FILE_LIMIT = 16 * 1024;
const OTHERS = 0o077;

/** The contents of a file; throws when it is not fit for a secret. */
export type ReadFile = (file: string) => Buffer;

/** @throws ERR_TCPCRYPT_AUTH_KEY_FILE */
export function readHostKey(file: string, read: ReadFile = readSecret): KeyObject {
  const key = parsed(file, read(file).toString('latin1'));
  if (key.asymmetricKeyType !== 'ed25519')
    throw unusable(file, `not an Ed25519 key: ${key.asymmetricKeyType}`);
  return key;
}

/** Makes a host key, readable by its owner only; an existing one stays. @returns whether it is new */
export function makeHostKey(file: string): boolean {
  let fd: number;
  try {
    fd = openSync(file, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      readHostKey(file);
      return false;
    }
    throw unusable(file, reason(error), error);
  }
  try {
    const { privateKey } = generateKeyPairSync('ed25519');
    writeFileSync(fd, privateKey.export({ type: 'pkcs8', format: 'pem' }));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return true;
}

/** @throws ERR_TCPCRYPT_AUTH_KEY_FILE */
export function readSharedKey(file: string, read: ReadFile = readSecret): Buffer {
  const bytes = read(file);
  const end = /\r?\n$/.exec(bytes.toString('latin1'))?.[0].length ?? 0;
  const key = bytes.subarray(0, bytes.length - end);
  if (key.length < SHARED_KEY_MIN)
    throw unusable(file, `${key.length} bytes, ${SHARED_KEY_MIN} are the least: openssl rand -hex 32`);
  return key;
}

/** The contents of a file that others cannot read. @throws ERR_TCPCRYPT_AUTH_KEY_FILE */
export function readSecret(file: string): Buffer {
  let fd: number | undefined;
  try {
    fd = openSync(file, 'r');
    const stat = fstatSync(fd);
    const { mode, size } = stat;
    if (stat.isDirectory()) throw unusable(file, 'a directory');
    if ((mode & OTHERS) !== 0) throw unusable(file, `others may use it: chmod 600 ${file}`);
    if (size > FILE_LIMIT) throw unusable(file, `larger than ${FILE_LIMIT} bytes`);
    return readFileSync(fd);
  } catch (error) {
    throw error instanceof TcpcryptError ? error : unusable(file, reason(error), error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function parsed(file: string, pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw unusable(file, 'not a private key in PEM: make one with "tcpcrypt host-key make"', error);
  }
}

const reason = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

export const unusable = (file: string, detail: string, cause?: unknown): TcpcryptError =>
  new TcpcryptError('ERR_TCPCRYPT_AUTH_KEY_FILE', { detail: `${file}: ${detail}`, cause });
