/** Where the daemon logs to. */
import { type DestinationStream, pino } from 'pino';

/** Characters that wait at most. */
const ROOM = 8192;

/**
 * Standard output, with one write(2) for all lines of one turn of the event loop: when many connections come at once,
 * that is what they have to wait for. Nothing is left behind when the process exits.
 */
export function logDestination(): DestinationStream {
  const destination = pino.destination({ dest: 1, sync: true, minLength: ROOM });
  let waiting = false;
  const flush = (): void => {
    waiting = false;
    destination.flushSync();
  };
  process.on('exit', flush);
  return {
    write(line: string): void {
      destination.write(line);
      if (waiting) return;
      waiting = true;
      setImmediate(flush);
    },
  };
}
