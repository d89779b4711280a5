import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from '#src/lab/lab.js';

export type KeyType = 'ecdsa' | 'rsa' | 'ed25519';

const KEY: { readonly [type in KeyType]: readonly string[] } = {
  ecdsa: ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
  rsa: ['rsa:2048'],
  ed25519: ['ed25519'],
};

/** The host that the certificates are for. */
export const CERTIFICATE_HOST = 'bench.example';

/** A self-signed certificate in the lab's directory. */
export function certificate(lab: Lab, type: KeyType): { readonly key: string; readonly certificate: string } {
  const key = join(lab.directory, `${type}.key`);
  const certificate = join(lab.directory, `${type}.crt`);
  if (!existsSync(key))
    execFileSync(
      'openssl',
      [
        ...[
          'req',
          '-x509',
          '-nodes',
          '-days',
          '2',
          '-subj',
          '/CN=bench',
          '-addext',
          `subjectAltName=DNS:${CERTIFICATE_HOST}`,
          '-keyout',
          key,
          '-out',
          certificate,
        ],
        ...['-newkey', ...KEY[type]],
      ],
      { stdio: 'ignore' },
    );
  return { key, certificate };
}
