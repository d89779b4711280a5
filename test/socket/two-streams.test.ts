/**
 * The readable twin of bare-socket.ts: the same tests with the net.Socket that Node makes for each connection, as they run
 * where this Node does not tell how to do without.
 */
import { keepStreams } from '#src/socket/bare-socket.js';

keepStreams();
await import('./like-net.test.js');
await import('./onread.test.js');
await import('./stream.test.js');
await import('./hostile.test.js');
await import('./server.test.js');
