/** Key pairs of OpenSSL that nobody erased, as their session was forgotten instead of destroyed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { generateKeyPair } from '#src/crypto/index.js';
import { openSsl } from '#src/crypto/openssl.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('a forgotten key pair is erased when it is collected', async () => {
  const functions = openSsl() as unknown as Record<string, (pointer: number) => void>;
  const { freeKey } = functions;
  assert.ok(freeKey);
  const use = (): void => {
    for (let i = 0; i < 100; i++) generateKeyPair('X25519');
  };
  use(); // self-tests
  let freed = 0;
  functions.freeKey = (pointer) => {
    freed += 1;
    freeKey(pointer);
  };
  use();
  for (let i = 0; i < 100 && freed < 50; i++) {
    collectGarbage();
    await turn();
  }
  assert.ok(freed >= 50, `${freed} freed`);
});
