/** What an application holds, and a bare program does not: a full collection of garbage has to look at all of it. */
const held: object[] = [];

/** Fills the heap with so many MB of small objects that stay. */
export function hold(megabytes: number): void {
  const wanted = process.memoryUsage().heapUsed + megabytes * 1e6;
  while (process.memoryUsage().heapUsed < wanted)
    for (let i = 0; i < 1000; i++) held.push({ number: i, list: [i, i + 1], text: `${i}` });
}
