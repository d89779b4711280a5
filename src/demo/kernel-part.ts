/** `tcpcrypt up` for one host of the lab, and its undo, also after kill -9. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Guard } from '../kernel/guard.js';
import { down, up } from '../kernel/install.js';
import { defaultPins } from '../kernel/pins.js';
import type { Host } from '../lab/host.js';

export function loadKernelPart(host: Host): { pins: string; undo: () => Promise<void> } {
  const pins = join(dirname(defaultPins()), host.namespace);
  const main = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const guard = new Guard(`'${process.execPath}' '${main}' down --pins '${pins}'`);
  up({ cgroup: host.cgroup, pins });
  return {
    pins,
    undo: async () => {
      down({ pins });
      await guard.standDown();
    },
  };
}
