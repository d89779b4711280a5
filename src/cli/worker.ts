/** A worker of `tcpcrypt daemon --workers`; the daemon starts it. */
import { pino } from 'pino';
import { work } from '../daemon/workers/worker.js';
import { logDestination } from './log-destination.js';

if (process.send === undefined) {
  process.stderr.write('This is a part of "tcpcrypt daemon --workers", which starts it.\n');
  process.exit(2);
}
work((worker, level) =>
  pino({ level, base: { worker }, timestamp: pino.stdTimeFunctions.isoTime }, logDestination()),
);
