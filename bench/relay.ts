/** A plain Node relay: `node relay.js ADDRESS PORT HOST PORT`. What any daemon written for Node costs at least. */
import { connect, createServer, type Socket } from 'node:net';

const [address, port, host, to] = process.argv.slice(2);

function pump(from: Socket, into: Socket): void {
  from.on('data', (data) => {
    if (!into.write(data)) from.pause();
  });
  into.on('drain', () => from.resume());
  from.on('end', () => into.end());
  from.on('close', () => into.destroy());
  from.on('error', () => {});
}

createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (near) => {
  const far = connect({ host: host ?? '', port: Number(to), allowHalfOpen: true, noDelay: true }, () => {
    pump(near, far);
    pump(far, near);
    near.resume();
  });
  far.on('error', () => near.destroy());
}).listen({ port: Number(port), host: address ?? '', backlog: 4096 });
