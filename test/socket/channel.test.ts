/** A connection about which kernel part and transcript do not say the same. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import type { EnoOutcome } from '#src/kernel/eno-socket.js';
import { Channel } from '#src/socket/channel.js';
import { encryption } from '#src/socket/options.js';
import { descriptorOf } from '#src/socket/transport.js';

const contradictions: Record<string, EnoOutcome> = {
  'no option of B': { result: 'encrypt', role: 'A', transcript: Uint8Array.of(69, 3, 0x23) },
  'no TEP in common': {
    result: 'encrypt',
    role: 'A',
    transcript: Uint8Array.of(69, 3, 0x21, 69, 4, 1, 0x23),
  },
  'the other role': { result: 'encrypt', role: 'B', transcript: Uint8Array.of(69, 4, 1, 0x23, 69, 3, 0x23) },
  'more than two options': {
    result: 'encrypt',
    role: 'A',
    transcript: Uint8Array.of(69, 3, 0x23, 69, 4, 1, 0x23, 69, 2),
  },
};

for (const [what, outcome] of Object.entries(contradictions)) {
  test(`ENO-36: the kernel says "encrypt", the transcript does not: reset, and nothing in plaintext: ${what}`, {
    timeout: 5000,
  }, async () => {
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const transport = net.connect({
      port: (server.address() as net.AddressInfo).port,
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    const [[peer]] = (await Promise.all([once(server, 'connection'), once(transport, 'connect')])) as [
      [net.Socket],
      unknown,
    ];
    const heard: string[] = [];
    peer.on('data', (data) => heard.push(`${data}`));
    const over = new Promise<string>((resolve) => {
      peer.on('error', ({ code }: NodeJS.ErrnoException) => resolve(`${code}`));
      peer.on('end', () => resolve('end'));
    });
    peer.write('plaintext that nobody may get');
    const told: string[] = [];
    const closed = new Promise<Error | undefined>((resolve) => {
      const channel: Channel = new Channel(
        transport,
        descriptorOf(transport),
        outcome,
        encryption({ mode: 'opportunistic', resumption: false }),
        {
          onReady: () => {
            told.push('ready');
            channel.write(Buffer.from('in plaintext'));
          },
          onData: () => told.push('data'),
          onEnd: () => told.push('end'),
          onDrain: () => {},
          onClose: resolve,
        },
      );
    });
    assert.equal(((await closed) as NodeJS.ErrnoException).code, 'ERR_TCPCRYPT_NOT_ENCRYPTED');
    assert.equal(await over, 'ECONNRESET');
    assert.deepEqual([told, heard], [[], []]);
    server.close();
  });
}
