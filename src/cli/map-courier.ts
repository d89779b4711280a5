/** What a daemon that is not root any more has root run, when the kernel part is another one: see src/kernel/map-courier.ts. */
import { openDaemonMaps } from '../kernel/daemon-maps.js';
import { sendDescriptors } from '../kernel/descriptor-passing.js';
import { CHANNEL } from '../kernel/map-courier.js';

try {
  sendDescriptors(CHANNEL, openDaemonMaps(process.argv[2] ?? ''), 'maps');
} catch (error) {
  sendDescriptors(CHANNEL, [], (error as Error).message);
}
