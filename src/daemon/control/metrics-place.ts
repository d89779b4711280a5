/** Where metrics may be served: on this machine only. */
import { isIP } from 'node:net';
import { TcpcryptError } from '../../errors.js';

export type MetricsPlace = { readonly host: string; readonly port: number } | { readonly path: string };

/** With a listening socket in the place of a path: what root has to make is made early. */
export type ReadyPlace = Exclude<MetricsPlace, { readonly path: string }> | { readonly fd: number };

/**
 * "127.0.0.1:9569", "[::1]:9569", or the path of a socket.
 * @throws ERR_TCPCRYPT_ARGUMENT: what is shown there is not for other hosts
 */
export function metricsPlace(text: string): MetricsPlace {
  if (text.startsWith('/')) return { path: text };
  const [, v6, v4, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const host = v6 ?? v4 ?? '';
  const port = Number(digits);
  const loopback = isIP(host) === 6 ? host === '::1' : isIP(host) === 4 && host.startsWith('127.');
  if (!loopback || port > 0xffff)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `metrics: a loopback address with a port (127.0.0.1:9569), or the path of a socket: ${text}`,
    });
  return { host, port };
}
