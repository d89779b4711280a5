/**
 * Memory for plaintext that is only passed on: one for all connections of this thread, as nothing is in it any more when
 * the call that needed it returns. Calls can come one within the other; only the outermost has it.
 */
const SIZE = 327_680 + 1; // what one read takes, and the frame that was begun before it

let shared: Uint8Array | undefined;
let depth = 0;

/** Memory until {@link endLoan}. */
export function lentRoom(length: number): Uint8Array {
  if (depth > 1 || length > SIZE) return Buffer.allocUnsafeSlow(length);
  shared ??= Buffer.allocUnsafeSlow(SIZE);
  return shared;
}

/** Before a call that may need such memory; one {@link endLoan} for each. */
export function beginLoan(): void {
  depth += 1;
}

/** Nobody has what was lent since {@link beginLoan} any more. */
export function endLoan(): void {
  depth -= 1;
}

/** Chosen by us: from this size on, data have memory of their own, that nothing else keeps alive. */
const OWN_MEMORY_FROM = 4096;

/** Memory for plaintext that its reader may keep. */
export const ownRoom = (length: number): Buffer =>
  length < OWN_MEMORY_FROM ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length);
