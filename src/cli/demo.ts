/** `tcpcrypt demo`. */
import type { Command } from 'commander';
import { playDemo } from '../demo/demo.js';

export function register(program: Command): void {
  program
    .command('demo')
    .description('See it work: two hosts, a router that listens in, a third host without tcpcrypt.')
    .option('--json', 'print one JSON object with everything the demo showed, and nothing else')
    .addHelpText(
      'after',
      `
Needs root. The hosts are network namespaces; your machine's own network is not touched, and nothing is left behind.
Exit status: 0 when every check passed.`,
    )
    .action(async (flags: { json?: boolean }) => {
      const json = flags.json ?? false;
      const interrupt = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        process.once(signal, () => {
          if (!json) process.stdout.write('\n  stopping, taking everything down …\n');
          interrupt.abort();
        });
      }
      try {
        const report = await playDemo({ json, signal: interrupt.signal });
        if (json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
        process.exitCode = report.ok ? 0 : 1;
      } catch (error) {
        if (!interrupt.signal.aborted) throw error;
        process.exitCode = 130;
      }
    });
}
