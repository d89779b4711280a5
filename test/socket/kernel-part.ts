/**
 * `tcpcrypt up` for this test process alone: a cgroup of its own, with the process in it and pins of its own.
 * Everything is gone when the process is, also after kill -9.
 *
 *     const kernel = await KernelPart.load();
 *     …                                        sockets of this process, and of its children, can do ENO
 *     kernel.spawnOutside(…)                    a child for which nobody ran "tcpcrypt up"
 *     await kernel.unload();
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ownCgroup } from '#src/kernel/cgroup.js';
import { Guard } from '#src/kernel/guard.js';
import { up } from '#src/kernel/install.js';
import { defaultPins } from '#src/kernel/pins.js';
import { cgroupMount, removeCgroupScript } from '#src/lab/cgroup.js';

export const needsRoot = process.getuid?.() === 0 ? false : 'needs root';

/** The command `tcpcrypt`. */
export const TCPCRYPT = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
/** The package, as a program imports it. */
export const INDEX = new URL('../../../dist/index.js', import.meta.url).href;

export class KernelPart {
  readonly #guard: Guard;

  private constructor(
    readonly cgroup: string,
    readonly outside: string,
    readonly pins: string,
  ) {
    this.#guard = new Guard(
      `'${process.execPath}' '${TCPCRYPT}' down --pins '${pins}'\n${removeCgroupScript(cgroup)}`,
    );
  }

  static load(): KernelPart {
    const name = `tcpcrypt-lab-${process.pid}-socket`; // a name that scripts/test.sh looks for
    const outside = ownCgroup();
    if (outside === undefined) throw new Error('cgroup v2 is not mounted');
    const cgroup = join(cgroupMount(), name);
    const kernel = new KernelPart(cgroup, outside, join(dirname(defaultPins()), name));
    mkdirSync(cgroup);
    up({ cgroup, pins: kernel.pins });
    kernel.enter();
    return kernel;
  }

  /** Sockets that this process makes from now on can do ENO. */
  enter(): void {
    writeFileSync(join(this.cgroup, 'cgroup.procs'), '0');
  }

  /** Sockets that this process makes from now on cannot do ENO. */
  leave(): void {
    writeFileSync(join(this.outside, 'cgroup.procs'), '0');
  }

  /** A child process for which the kernel part is not there. */
  spawnOutside(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const script = 'echo 0 > "$1/cgroup.procs" || exit 126\nshift\nexec "$@"';
    return spawn('/bin/sh', ['-c', script, 'sh', this.outside, command, ...args], options);
  }

  async unload(): Promise<void> {
    this.leave();
    await this.#guard.run();
  }
}
