import assert from 'node:assert/strict';
import { type ErrorCode, TcpcryptError } from '#src/errors.js';

/** For assert.throws: the error has this code, and comes from the table. */
export const withCode = (code: ErrorCode) => (error: unknown) => {
  assert.ok(error instanceof TcpcryptError, `not a TcpcryptError: ${error}`);
  assert.equal(error.code, code);
  return true;
};
