import { TcpcryptError } from '../errors.js';

/** @throws ERR_TCPCRYPT_ARGUMENT */
export function check(condition: boolean, detail: string): asserts condition {
  if (!condition) throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail });
}
