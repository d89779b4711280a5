/** What a capture shows, in words: TCP options by name, the ENO option decoded, payload as a hex dump. */
import { hex } from '../socket/describe.js';
import { isTepId, parseEnoContents, TCP_OPTION_ENO, TEPS } from '../wire/index.js';

const OPTION_NAMES: Record<number, string> = {
  2: 'MSS',
  3: 'window scale',
  4: 'SACK permitted',
  5: 'SACK',
  8: 'timestamps',
  30: 'MPTCP',
  34: 'Fast Open',
};

/** The names of the options in a TCP header's option area, in order; padding left out. */
export function explainOptions(options: Uint8Array, synForm: boolean): string[] {
  const names: string[] = [];
  for (let i = 0; i < options.length; ) {
    const kind = options[i] ?? 0;
    if (kind === 0) break;
    if (kind === 1) {
      i++;
      continue;
    }
    const length = options[i + 1] ?? 0;
    if (length < 2 || i + length > options.length) break;
    const contents = options.subarray(i + 2, i + length);
    names.push(
      kind === TCP_OPTION_ENO ? explainEno(contents, synForm) : (OPTION_NAMES[kind] ?? `kind ${kind}`),
    );
    i += length;
  }
  return names;
}

/** The whole ENO option in hexadecimal, and what it says. */
function explainEno(contents: Uint8Array, synForm: boolean): string {
  const bytes = `${hex(Uint8Array.of(TCP_OPTION_ENO, contents.length + 2))}${hex(contents)}`;
  const spaced = bytes.replace(/..(?=.)/g, '$& ');
  if (!synForm) return `ENO [${spaced}] "yes, encrypt"`;
  const parsed = parseEnoContents(contents);
  if (!parsed.wellFormed) return `ENO [${spaced}] ill-formed`;
  const teps = parsed.suboptions.map(({ tep }) => (isTepId(tep) ? TEPS[tep].name : `0x${tep.toString(16)}`));
  const role = (parsed.global & 1) === 1 ? 'host B, ' : '';
  return `ENO [${spaced}] "${role}${teps.join(', ') || 'nothing on offer'}"`;
}

/** `rows` lines of 16 bytes, hexadecimal and, where printable, as text. */
export function hexDump(bytes: Uint8Array, rows: number): string[] {
  const lines: string[] = [];
  for (let i = 0; i < Math.min(bytes.length, rows * 16); i += 16) {
    const row = bytes.subarray(i, i + 16);
    const text = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·'));
    const groups = hex(row).replace(/..(?=.)/g, '$& ');
    lines.push(`${groups.padEnd(48)} ${text.join('')}`);
  }
  return lines;
}
