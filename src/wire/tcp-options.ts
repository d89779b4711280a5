import { TCP_OPTION_ENO, TCP_OPTION_EOL, TCP_OPTION_NOP } from './constants.js';

/**
 * The contents of every ENO option (kind 69) in the option area of a TCP header, in order. The views share
 * memory with `area`.
 *
 *     +------+--------+--------------------+
 *     | kind | length | length - 2 bytes   |   kind 0 ends the list, kind 1 is a single byte
 *     +------+--------+--------------------+
 *
 * A list that is broken anywhere, by a length below 2 or past the end, counts as one without ENO: where its
 * options begin and end is then a guess. (RFC 9293 §3.1; the reading of broken lists is ours.)
 */
export function findEnoOptions(area: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  while (at < area.length) {
    const kind = area[at];
    if (kind === TCP_OPTION_EOL) break;
    if (kind === TCP_OPTION_NOP) {
      at += 1;
      continue;
    }
    const length = area[at + 1];
    if (length === undefined || length < 2 || at + length > area.length) return [];
    if (kind === TCP_OPTION_ENO) found.push(area.subarray(at + 2, at + length));
    at += length;
  }
  return found;
}
