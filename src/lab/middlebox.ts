/**
 * What broken or hostile boxes on the path do to the ENO option, as nftables rules of the lab's router.
 * Captures on the router see segments before this on the interface they come in by, after it on the other.
 */
import { TcpcryptError } from '../errors.js';
import type { Host } from './host.js';

/** `syn`: SYN without ACK; `syn-ack`: both; `ack`: every segment without SYN, data as well. */
export type SegmentClass = 'syn' | 'syn-ack' | 'ack';

export interface Misbehaviour {
  /** Only segments that this host sent; default: all. */
  readonly sender?: Host;
  /** Replace option 69 by no-operations in these segments. */
  readonly stripFrom?: SegmentClass | readonly SegmentClass[];
  /** Drop SYN segments (without ACK) that carry option 69, silently. */
  readonly dropSynWithOption?: boolean;
  /**
   * In these segments, wherever `bytes` occur among the TCP options, put `by`: of the same length, 1 to 16.
   * To change what is offered: `bytes: [69, 3, 0x23], by: [69, 3, 0x21]`. The checksum is not corrected, which
   * nobody notices: the hosts' virtual network cards leave it to hardware that is not there.
   */
  readonly replace?: {
    readonly in: SegmentClass;
    readonly bytes: readonly number[];
    readonly by: readonly number[];
  };
}

/** ECN sets further flags on SYN segments (ECE, CWR): look at SYN and ACK only. */
const MATCH: Record<SegmentClass, string> = {
  syn: 'tcp flags & (syn | ack) == syn',
  'syn-ack': 'tcp flags & (syn | ack) == (syn | ack)',
  ack: 'tcp flags & syn == 0',
};

const ENO = 69;
const TCP_FIXED_HEADER = 20;
const TCP_MAX_HEADER = 60;
/** The most that nftables compares at once. */
const MAX_REPLACED = 16;

/** The nftables table that does it; `inet` is both IPv4 and IPv6. */
export function middleboxRules(table: string, misbehaviour: Misbehaviour): string {
  const { sender, stripFrom = [], dropSynWithOption = false, replace } = misbehaviour;
  const rules: string[] = [];
  for (const segment of typeof stripFrom === 'string' ? [stripFrom] : stripFrom)
    rules.push(`${MATCH[segment]} reset tcp option ${ENO}`);
  if (dropSynWithOption) rules.push(`${MATCH.syn} tcp option ${ENO} exists drop`);
  if (replace !== undefined) {
    const [before, after] = [hex(replace.bytes), hex(replace.by)];
    const length = replace.bytes.length;
    if (length !== replace.by.length || length < 1 || length > MAX_REPLACED)
      throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', { detail: `replace ${before} by ${after}` });
    for (let start = TCP_FIXED_HEADER; start + length <= TCP_MAX_HEADER; start++) {
      const bytes = `@th,${start * 8},${length * 8}`;
      const headerWords = Math.ceil((start + length) / 4);
      rules.push(`${MATCH[replace.in]} tcp doff >= ${headerWords} ${bytes} ${before} ${bytes} set ${after}`);
    }
  }
  const from = sender === undefined ? '' : `iifname "${sender.routerInterface}" `;
  return [
    `table inet ${table} {`,
    '  chain forward {',
    '    type filter hook forward priority mangle;',
    ...rules.map((rule) => `    ${from}${rule}`),
    '  }',
    '}',
    '',
  ].join('\n');
}

const hex = (bytes: readonly number[]): string => `0x${Buffer.from(bytes).toString('hex')}`;
