/** getpeername() and accept() behind the relay: the daemon says who the real client is. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { TcpcryptError } from '#src/errors.js';
import { netnsCookie, TruePeers } from '#src/kernel/true-peer.js';
import { dial, lab, listen, shell } from './lab.js';

const place = lab();
const here = netnsCookie();

/** What a server listening on `bind` sees of a client that connects to `to`, when `tell` has named the true peer. */
async function seen(
  bind: string,
  to: string,
  tell: (peers: TruePeers, port: number) => void,
): Promise<string> {
  const peers = new TruePeers(place.pins);
  const { server, port, accept } = await listen(undefined, bind);
  const client = await dial(port, undefined, to);
  const { localPort = 0 } = client;
  tell(peers, localPort);
  const accepted = await accept();
  const { remoteAddress, remotePort } = accepted; // Node asks getpeername() here
  client.destroy();
  accepted.destroy();
  server.close();
  peers.close();
  return `${remoteAddress} ${remotePort === localPort ? 'own port' : remotePort}`;
}

test('an IPv4 server sees the IPv4 client behind the relay', async () => {
  const told = await seen('127.0.0.1', '127.0.0.1', (peers, port) =>
    peers.set(here, '127.0.0.1', port, '192.0.2.7', 4242),
  );
  assert.equal(told, '192.0.2.7 4242');
});

test('an IPv6 server sees IPv6 clients, and IPv4 clients in mapped form', async () => {
  assert.equal(
    await seen('::1', '::1', (peers, port) => peers.set(here, '::1', port, '2001:db8::7', 4242)),
    '2001:db8::7 4242',
  );
  assert.equal(
    await seen('::', '127.0.0.1', (peers, port) => peers.set(here, '127.0.0.1', port, '192.0.2.7', 4242)),
    '::ffff:192.0.2.7 4242',
  );
});

test('everybody else is seen as they are: nothing set, deleted, another network namespace, IPv6 for an IPv4 socket', async () => {
  const own = '127.0.0.1 own port';
  const tell = (action: (peers: TruePeers, port: number) => void) => seen('127.0.0.1', '127.0.0.1', action);
  assert.equal(await tell(() => {}), own);
  assert.equal(
    await tell((peers, port) => {
      peers.set(here, '127.0.0.1', port, '192.0.2.7', 4242);
      peers.delete(here, '127.0.0.1', port);
      peers.delete(here, '127.0.0.1', port);
    }),
    own,
  );
  assert.equal(await tell((peers, port) => peers.set(here + 1n, '127.0.0.1', port, '192.0.2.7', 1)), own);
  assert.equal(await tell((peers, port) => peers.set(here, '127.0.0.1', port, '2001:db8::7', 1)), own);
});

test('accept() itself reports the true peer', () => {
  const set = `
import { netnsCookie, TruePeers } from '${import.meta.resolve('#src/kernel/true-peer.js')}';
new TruePeers('${place.pins}').set(netnsCookie(), '127.0.0.1', Number(process.argv[1]), '192.0.2.7', 4242);`;
  const python = `
import os, socket, subprocess
client = socket.socket(); client.bind(('127.0.0.1', 0))
subprocess.run([os.environ['NODE'], '--input-type=module', '-e', os.environ['SET'], str(client.getsockname()[1])], check=True)
listener = socket.create_server(('127.0.0.1', 0)); client.connect(listener.getsockname())
print(listener.accept()[1])`;
  process.env.NODE = process.execPath;
  process.env.SET = set;
  process.env.PYTHON = python;
  assert.equal(shell('python3 -c "$PYTHON"').trim(), "('192.0.2.7', 4242)");
});

test('without pins there is no kernel part', () => {
  assert.throws(
    () => new TruePeers(join(place.bpffs, 'none')),
    (error) => error instanceof TcpcryptError && error.code === 'ERR_TCPCRYPT_KERNEL_ABSENT',
  );
});
