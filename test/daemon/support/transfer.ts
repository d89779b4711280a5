/**
 * Connections that carry data both ways at once, and end: `node transfer.js serve net|library PORT`, `… call net|library ADDRESS
 * PORT COUNT BYTES`. Random bytes; each end says a SHA-256 of what it has sent, behind it. Prints for each call, as JSON, whether
 * what came was what was sent, and whether it was encrypted; or the error.
 */
import { createHash, randomBytes } from 'node:crypto';
import * as net from 'node:net';
import * as tcpcrypt from '#src/index.js';

const DIGEST = 32;

interface Outcome {
  readonly whole: boolean;
  readonly encrypted: boolean;
  readonly error?: string;
}

function transfer(socket: net.Socket | tcpcrypt.Socket, length: number): Promise<Outcome> {
  const [sent, came] = [createHash('sha256'), createHash('sha256')];
  let last = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => {
    const all = Buffer.concat([last, data]);
    const keep = Math.max(0, all.length - DIGEST);
    came.update(all.subarray(0, keep));
    last = all.subarray(keep);
  });
  let left = length;
  const more = (): void => {
    while (left > 0) {
      const piece = randomBytes(Math.min(left, 1 + (left % 30_011)));
      left -= piece.length;
      sent.update(piece);
      if (!socket.write(piece) && left > 0) {
        socket.once('drain', more);
        return;
      }
    }
    socket.end(sent.digest());
  };
  more();
  return new Promise((resolve) => {
    let error: string | undefined;
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      error = cause.code ?? cause.message;
    });
    socket.on('close', () => {
      const whole = error === undefined && came.digest().equals(last);
      const encrypted = 'encrypted' in socket && socket.encrypted === true;
      resolve({ whole, encrypted, ...(error === undefined ? {} : { error }) });
    });
  });
}

const [what, by, ...words] = process.argv.slice(2);
const print = (outcome: Outcome): unknown => process.stdout.write(`${JSON.stringify(outcome)}\n`);
if (what === 'serve') {
  const { createServer } = by === 'library' ? (tcpcrypt as unknown as typeof net) : net;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once('data', (first: Buffer) => {
      socket.unshift(first.subarray(4));
      void transfer(socket, first.readUInt32BE()).then(print);
    });
  });
  server.listen(Number(words[0]), '::');
} else {
  const [host = '', port, count, bytes] = words;
  const { connect } = by === 'library' ? (tcpcrypt as unknown as typeof net) : net;
  for (let i = 0; i < Number(count); i++) {
    const socket = connect({ host, port: Number(port), allowHalfOpen: true });
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Number(bytes));
    socket.write(length);
    void transfer(socket, Number(bytes)).then(print);
  }
}
