/**
 * For `node --import`: counts what a program calls through koffi; on SIGWINCH it writes a line to stdout,
 * `{"event":"calls","calls":{"setsockopt":12,…}}`, and begins anew.
 */
import { takeCalls } from '../../support/koffi-calls.js';

process.on('SIGWINCH', () => {
  process.stdout.write(`${JSON.stringify({ event: 'calls', calls: takeCalls() })}\n`);
});
