import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { certificate } from '../certificate.js';
import { type Peer, SERVER_PORT } from '../peer.js';

const NEAR = 7001;
const FAR = 7002;
const program = ['stunnel4', 'stunnel'].find((name) => spawnSync(name, ['-version']).error === undefined);

/** The usual way to give TLS to a program that has none. */
export const stunnel: Peer = {
  name: 'stunnel pair',
  works: 'all',
  missing: () => (program === undefined ? 'stunnel is not installed (Debian: stunnel4)' : undefined),
  async setUp({ lab, client, server, address, any, loopback }) {
    const { key, certificate: cert } = certificate(lab, 'ecdsa');
    const common = `foreground = yes
syslog = no
debug = crit
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
sslVersion = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256
`;
    const start = (host: typeof client, name: string, service: string) => {
      const file = join(lab.directory, `stunnel-${name}.conf`);
      writeFileSync(file, `${common}pid =\n[bench]\n${service}`);
      host.spawn(program ?? '', [file], { stdio: 'ignore' });
    };
    start(
      server,
      'server',
      `accept = ${any}:${FAR}\nconnect = ${loopback}:${SERVER_PORT}\ncert = ${cert}\nkey = ${key}\n`,
    );
    start(client, 'client', `client = yes\naccept = ${loopback}:${NEAR}\nconnect = ${address}:${FAR}\n`);
    await Promise.all([server.waitForListener(FAR), client.waitForListener(NEAR)]);
    return {
      connect: { kind: 'plain', host: loopback, port: NEAR },
      listen: { kind: 'plain', port: SERVER_PORT },
    };
  },
};
