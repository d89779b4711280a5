/**
 * OpenSSL leaves reasons of failures in a queue of the thread. Calls of ours are behind Node's back, which finds what they
 * leave, and takes it for the failure of a TLS connection: a peer of ours must not be able to break those.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { aead, type Curve, generateKeyPair, memoryOf } from '#src/crypto/index.js';
import { withCode } from '../support/code.js';

/** Two ends of a TLS connection in this process. */
async function tlsPair(): Promise<{ client: TLSSocket; server: TLSSocket; close(): void }> {
  const psk = randomBytes(32);
  const common = { ciphers: 'PSK-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' } as const;
  const listener = createServer({ ...common, pskCallback: () => psk });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const accepted = once(listener, 'secureConnection');
  const client = connect({
    ...common,
    host: '127.0.0.1',
    port,
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ psk, identity: 'test' }),
  });
  const [server] = (await accepted) as [TLSSocket];
  const close = (): void => {
    for (const end of [client, server, listener]) 'destroy' in end ? end.destroy() : end.close();
  };
  return { client, server, close };
}

const REFUSED: readonly (readonly [what: string, refuse: () => void])[] = [
  ...(['X25519', 'X448', 'P-256', 'P-521'] as Curve[]).map(
    (curve) =>
      [
        `a public key: ${curve}`,
        () => {
          const pair = generateKeyPair(curve);
          const key = new Uint8Array(pair.publicKey.length); // of small order, or no point
          assert.throws(() => pair.agree(key), withCode('ERR_TCPCRYPT_INIT_PUBLIC_KEY'));
          pair.erase();
        },
      ] as const,
  ),
  ...(['AES-128-GCM', 'AES-256-GCM', 'CHACHA20-POLY1305'] as const).map(
    (name) =>
      [
        `a frame: ${name}`,
        () => {
          const key = aead(name, randomBytes(name === 'AES-128-GCM' ? 16 : 32));
          const into = memoryOf(new Uint8Array(34));
          assert.equal(key.open(new Uint8Array(12), new Uint8Array(3), [randomBytes(50)], into, 0), false);
          key.erase();
        },
      ] as const,
  ),
];

for (const [what, refuse] of REFUSED) {
  test(`TLS connections of the process go on when a peer of ours is refused: ${what}`, async () => {
    const { client, server, close } = await tlsPair();
    try {
      client.on('data', (data) => {
        client.write(data);
        refuse(); // what comes behind finds an end of data: the moment in which TLS asks whether something is wrong
      });
      for (const word of ['once', 'twice']) {
        refuse();
        server.write(word);
        refuse();
        const [echo] = (await once(server, 'data')) as [Buffer];
        assert.equal(echo.toString(), word);
      }
    } finally {
      close();
    }
  });
}
