/** `node rough-wire-program.js QUEUE {loss,delay,jitter,seed}`, in the router: what comes to its NFQUEUE is lost, or goes on late. */
import { NfQueue } from '#src/kernel/nfqueue.js';
import { SeededRandom } from '../../support/random.js';

const [number, settings] = process.argv.slice(2);
const { loss, delay, jitter, seed } = JSON.parse(settings ?? '') as Record<string, number>;
const random = new SeededRandom(seed ?? 0);

const queue = NfQueue.open({
  queue: Number(number),
  maxHeld: 65_536,
  onPacket: ({ id }) => {
    if (random.chance(loss ?? 0)) queue.drop(id);
    else setTimeout(() => queue.accept(id), (delay ?? 0) + random.below((jitter ?? 0) + 1));
  },
  onError: (error) => {
    throw error;
  },
});
process.stdout.write('ready\n');
