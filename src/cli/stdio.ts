/** Joins a connection to stdin and stdout, as netcat does. */
import type { Socket } from '../socket/socket.js';

/** What stdin says goes out, its end as the end of our direction; what comes in goes to stdout. */
export function joinStdio(socket: Socket): void {
  const { stdin, stdout } = process;
  if (stdin.readableEnded || stdin.destroyed) socket.end();
  else stdin.pipe(socket);
  socket.pipe(stdout, { end: false });

  // `tcpcrypt connect … | head -1`: nobody takes the rest any more.
  const broken = (error: Error): void => {
    socket.destroy((error as NodeJS.ErrnoException).code === 'EPIPE' ? undefined : error);
  };
  const unreadable = (error: Error): void => {
    socket.destroy(error);
  };
  stdout.on('error', broken);
  stdin.on('error', unreadable);
  socket.once('close', () => {
    stdin.off('error', unreadable);
    stdin.unpipe(socket);
    // Later errors of stdout must find somebody as well.
    if (stdout.listenerCount('error') > 1) stdout.off('error', broken);
  });
}
