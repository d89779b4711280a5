/**
 * The server program: `node server.js LISTENER ADDRESS`. Collects garbage on SIGUSR2; says for each line on stdin in one on
 * stdout how often it has signed.
 */
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { signed } from './authentication.js';
import { CHUNK, HEADER_LENGTH, Operation, readHeader } from './protocol.js';
import { type Listener, listen } from './transports.js';

const chunk = Buffer.alloc(CHUNK, 7);

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

function send(stream: Duplex, length: number): void {
  let left = length;
  const more = (): void => {
    while (left > 0) {
      const size = Math.min(left, CHUNK);
      left -= size;
      if (!stream.write(size === CHUNK ? chunk : chunk.subarray(0, size))) return;
    }
  };
  stream.on('drain', more);
  more();
}

function receive(stream: Duplex, length: number, received: number): void {
  let left = length - received;
  stream.on('data', (data: Buffer) => {
    left -= data.length;
    if (left === 0) stream.write(Buffer.of(1));
  });
}
