/**
 * The server program: `node server.js LISTENER ADDRESS HEAP`, with a heap of HEAP MB. Collects garbage on SIGUSR2; says
 * for each line on stdin in one on stdout how often it has signed.
 */
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { signed } from './authentication.js';
import { hold } from './heap.js';
import { HEADER_LENGTH, Operation, readHeader, send } from './protocol.js';
import { type Listener, listen } from './transports.js';

hold(Number(process.argv[4]));
process.on('SIGUSR2', () => global.gc?.());
createInterface({ input: process.stdin }).on('line', () => {
  process.stdout.write(`${JSON.stringify(signed())}\n`);
});

await listen(JSON.parse(process.argv[2] ?? '') as Listener, process.argv[3] ?? '', (stream) => {
  stream.on('error', () => {});
  stream.once('data', (first: Buffer) => {
    if (first[0] === Operation.Echo) {
      stream.write(first);
      stream.on('data', (data: Buffer) => stream.write(data));
      return;
    }
    const { operation, length } = readHeader(first);
    if (operation === Operation.Send) send(stream, length);
    else receive(stream, length, first.length - HEADER_LENGTH);
  });
});

function receive(stream: Duplex, length: number, received: number): void {
  let left = length - received;
  stream.on('data', (data: Buffer) => {
    left -= data.length;
    if (left === 0) stream.write(Buffer.of(1));
  });
}
