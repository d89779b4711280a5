/** Keys and contexts of OpenSSL that nobody erased, as their session was forgotten instead of destroyed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { aead, generateKeyPair } from '#src/crypto/index.js';
import { openSsl } from '#src/crypto/openssl.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('a forgotten key, and a forgotten key pair, are erased when they are collected', async () => {
  const functions = openSsl() as unknown as Record<string, (pointer: number) => void>;
  const freed = { freeCipherContext: 0, freeKey: 0 };
  const use = (): void => {
    for (let i = 0; i < 100; i++) {
      aead('AES-128-GCM', new Uint8Array(16)).seal(new Uint8Array(12), new Uint8Array(3), [
        new Uint8Array(9),
      ]);
      generateKeyPair('X25519');
    }
  };
  use(); // self-tests
  for (const name of ['freeCipherContext', 'freeKey'] as const) {
    const original = functions[name];
    assert.ok(original);
    functions[name] = (pointer) => {
      freed[name] += 1;
      original(pointer);
    };
  }
  use();
  for (let i = 0; i < 100 && (freed.freeCipherContext < 50 || freed.freeKey < 50); i++) {
    collectGarbage();
    await turn();
  }
  assert.ok(freed.freeCipherContext >= 50 && freed.freeKey >= 50, JSON.stringify(freed));
});
