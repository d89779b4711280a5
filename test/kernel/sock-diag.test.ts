import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { SockDiag } from '#src/kernel/sock-diag.js';

for (const [family, host] of [
  ['ipv4', '127.0.0.1'],
  ['ipv6', '::1'],
] as const)
  test(`${family}: a socket is found while it is there, also by who does not own it`, async () => {
    const diag = new SockDiag();
    const server = createServer((socket) => socket.on('error', () => {})).listen(0, host);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = connect(port, host);
    await once(client, 'connect');
    const name = {
      family,
      source: host,
      sourcePort: client.localPort ?? 0,
      destination: host,
      destinationPort: port,
    };
    assert.equal(diag.finds(name), true);
    assert.equal(diag.finds({ ...name, destinationPort: port ^ 1 }), false);
    // Only a listener is there: not the one that was meant.
    assert.equal(diag.finds({ ...name, sourcePort: port, destinationPort: name.sourcePort ^ 1 }), false);
    client.resetAndDestroy();
    await once(client, 'close');
    assert.equal(diag.finds(name), false);
    server.close();
    diag.close();
  });
