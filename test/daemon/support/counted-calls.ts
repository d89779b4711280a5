/**
 * For `node --import`: counts what a program calls through koffi, by the name of the C function; on SIGWINCH it writes a line
 * to stdout, `{"event":"calls","calls":{"setsockopt":12,…}}`, and begins anew.
 */
import { createRequire } from 'node:module';
import imported from 'koffi';

type Call = ((...args: unknown[]) => unknown) & { async?: unknown };
interface Library {
  func(...prototype: unknown[]): Call;
}
interface Koffi {
  load(...args: unknown[]): Library;
}

let calls: Record<string, number> = {};

// There are two of koffi: import and require.
for (const koffi of new Set([imported, createRequire(import.meta.url)('koffi')] as unknown as Koffi[])) {
  const load = koffi.load.bind(koffi);
  koffi.load = (...args) => {
    const library = load(...args);
    return new Proxy(library, {
      get: (target, key) => (key === 'func' ? counting(library) : Reflect.get(target, key, target)),
    });
  };
}

function counting(library: Library): Library['func'] {
  return (...prototype) => {
    const call = library.func(...prototype);
    const name = /(\w+)\s*\(/.exec(String(prototype[0]))?.[1] ?? String(prototype[0]);
    const counted = (...values: unknown[]) => {
      calls[name] = (calls[name] ?? 0) + 1;
      return call(...values);
    };
    return Object.assign(counted, { async: call.async });
  };
}

process.on('SIGWINCH', () => {
  process.stdout.write(`${JSON.stringify({ event: 'calls', calls })}\n`);
  calls = {};
});
