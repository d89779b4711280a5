/**
 * Channel binding for mechanisms that have a place for it (SCRAM-…-PLUS, GSS-API, tokens): bytes that are the same on
 * both ends of this connection, and on no other connection.
 *
 * They are not secret, because session IDs are not: bind with them, never encrypt with them.
 */
import { cprf, extract } from '../crypto/hkdf.js';
import { TcpcryptError } from '../errors.js';
import { prefixed } from './bytes.js';
import { check } from './check.js';

const EXPORTER_LIMIT = 255 * 32;
const SALT = Buffer.from('tcpcrypt-auth/1 exporter');

/**
 * HKDF-SHA256 of the session ID. `label` tells purposes apart, `context` uses of one purpose (a role, a nonce).
 * @throws ERR_TCPCRYPT_ARGUMENT, ERR_TCPCRYPT_NO_SESSION for an empty session ID
 */
export function exporter(
  sessionId: Uint8Array,
  label: string,
  context: Uint8Array = new Uint8Array(),
  length = 32,
): Buffer {
  if (sessionId.length === 0) throw new TcpcryptError('ERR_TCPCRYPT_NO_SESSION');
  check(label.length > 0, 'exporter: no label');
  check(Number.isInteger(length) && length > 0 && length <= EXPORTER_LIMIT, `exporter: length ${length}`);
  return Buffer.from(cprf(extract(SALT, [sessionId]), [prefixed(label), prefixed(context)], length));
}
