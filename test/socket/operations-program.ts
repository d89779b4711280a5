/** `fork`ed: performs the sequences that it is sent, by the implementation that its argument names, and sends back what was seen. */
import { keepStreams } from '#src/socket/bare-socket.js';
import { ENCRYPTED, NET, OURS } from './implementations.js';
import { perform, type Sequence } from './operations.js';

const [name, streams] = process.argv.slice(2);
if (streams === 'streams') keepStreams();
const implementation = [NET, ENCRYPTED, ...OURS].find((one) => one.name === name);
if (implementation === undefined) throw new Error(`no such implementation: ${name}`);

process.on('message', (sequence: Sequence) => {
  perform(implementation, sequence).then((seen) => process.send?.(seen));
});
process.on('disconnect', () => process.exit());
