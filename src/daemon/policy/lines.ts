/** Where something stands in a TOML text: the parser tells lines only of what it cannot read. */

/** Keys, and indices of arrays of tables: ["rule", 2, "port"], ["authentication", "ca"]. */
export type Path = readonly (string | number)[];

/** The line, from 1, of the key at `path`, or of the header of the table that lacks it, or of nothing better: 1. */
export function lineOf(text: string, path: Path): number {
  const [table, index] = path;
  const inArray = typeof index === 'number';
  const key = inArray ? path[2] : table;
  let element = -1;
  /** The table that we are in; undefined at the top. */
  let section: string | undefined;
  let header = 1;
  let found: number | undefined;
  text.split('\n').forEach((line, i) => {
    const [, doubled] = /^\s*\[\[\s*"?([^"\]]+?)"?\s*\]\]/.exec(line) ?? [];
    const [, single] =
      doubled === undefined ? (/^\s*\[\s*"?([^"\]]+?)"?\s*\]\s*(?:#.*)?$/.exec(line) ?? []) : [];
    if (doubled !== undefined || single !== undefined) {
      section = doubled ?? single;
      if (doubled === table) element++;
      if (inArray ? doubled === table && element === index : section === table) header = i + 1;
      return;
    }
    const [, word] = /^\s*"?([A-Za-z0-9_-]+)"?\s*(?:\.[^=]*)?=/.exec(line) ?? [];
    if (found !== undefined || word === undefined) return;
    const here = inArray ? section === table && element === index : section === undefined;
    if (here ? word === key : section === table && word === index) found = i + 1;
  });
  return found ?? header;
}
