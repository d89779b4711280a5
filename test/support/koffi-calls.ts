/**
 * Counts what this process calls through koffi: of functions that are bound after this module was imported, so it comes
 * before all that binds one.
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

/** What has been called since the last time, by the name of the C function. */
export function takeCalls(): Record<string, number> {
  const taken = calls;
  calls = {};
  return taken;
}

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
