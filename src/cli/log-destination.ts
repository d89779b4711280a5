/** Where the daemon logs to. */
import { type DestinationStream, pino } from 'pino';

/** Characters that wait at most. */
const ROOM = 8192;

/**
 * Standard output, with one write(2) for all lines of one turn of the event loop: when many connections come at once,
 * that is what they have to wait for. Nothing is left behind when the process exits.
 */
export function logDestination(): DestinationStream {
  // Not its own buffer: emptying that is followed by fsync(2), which a pipe or a journal answers with an error.
  const destination = pino.destination({ dest: 1, sync: true });
  let waiting = '';
  const flush = (): void => {
    const text = waiting;
    waiting = '';
    if (text !== '') destination.write(text);
  };
  process.on('exit', flush);
  return {
    write(line: string): void {
      if (waiting === '') setImmediate(flush);
      waiting += line;
      if (waiting.length >= ROOM) flush();
    },
  };
}
