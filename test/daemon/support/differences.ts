/**
 * Where a relayed connection does not look like native TCP, probe by probe: exactly the rows of docs/differences.md that
 * a probe can see. What is not here must be equal.
 */
import type { Place } from './pair.js';

interface Difference {
  /** The row of docs/differences.md. */
  readonly row: string;
  readonly at: readonly Place[];
  readonly side: 'client' | 'server';
  /** Undefined: all probes. */
  readonly probe?: string;
  /** What is seen natively, and what instead. */
  readonly instead: readonly (readonly [native: string, relayed: string])[];
}

const RELAYED: readonly Place[] = ['both ends', 'the client only'];

export const DIFFERENCES: readonly Difference[] = [
  {
    row: 'source port',
    at: RELAYED,
    side: 'server',
    instead: [
      ["the client's port", 'some port'],
      ["the client's privileged port", 'privileged'],
    ],
  },
  {
    row: 'urgent data',
    at: RELAYED,
    side: 'server',
    probe: 'urgent byte',
    instead: [
      ['urgent-byte: !', 'urgent-byte: EINVAL'],
      // "abcdef" and "abc!def"
      ['read: 6 bytes bef57ec7, end', 'read: 7 bytes 23d6d076, end'],
    ],
  },
];

/** What a probe must see at `place`, given what it sees natively. */
export function expected(
  native: readonly string[],
  place: Place,
  probe: string,
  side: 'client' | 'server',
): string[] {
  const instead = DIFFERENCES.filter(
    (difference) =>
      difference.at.includes(place) && difference.side === side && (difference.probe ?? probe) === probe,
  ).flatMap((difference) => difference.instead);
  return native.map((note) => instead.reduce((text, [from, to]) => text.replaceAll(from, to), note));
}
