/**
 * The demo: two hosts, a router that listens in, and a third host without tcpcrypt, as network namespaces.
 *
 *     alice (curl) ──── router (tcpdump) ──── bob (nginx)
 *                            └─────────────── carol (nginx, without tcpcrypt)
 *
 * Everything it shows is measured; it succeeds only if every check does.
 */
import { Capture } from '../lab/capture.js';
import type { Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { type CapturedSegment, findOption, isSyn, isSynAck } from '../lab/pcap.js';
import { TCP_OPTION_ENO } from '../wire/index.js';
import { DaemonProcess } from './daemons.js';
import { explainOptions, hexDump } from './explain.js';
import { loadKernelPart } from './kernel-part.js';
import { Narrator } from './narrator.js';
import { differences, machineState } from './remains.js';
import { checkRequirements } from './requirements.js';
import { ANSWER_MARKER, fetchLetter, lastClient, QUESTION_MARKER, serve } from './web.js';

/** Names of namespaces, cgroups, pins and directories of this process's labs begin so. */
const PREFIX = `tcpcrypt-lab-${process.pid}-`;

/** One exchange as the router saw it. */
export interface Exchange {
  readonly command: string;
  readonly sha256: string;
  readonly syn: readonly string[];
  readonly synAck: readonly string[];
  readonly firstAck: readonly string[];
  readonly segments: number;
  readonly firstClientPayload: string;
  readonly firstServerPayload: string;
  readonly plaintextSeen: boolean;
}

export interface DemoReport {
  readonly ok: boolean;
  readonly checks: readonly { readonly ok: boolean; readonly what: string }[];
  readonly plain?: Exchange;
  readonly encrypted?: Exchange & {
    readonly tep: string;
    readonly cipher: string;
    readonly sessionIds: { readonly alice: string; readonly bob: string };
    readonly clientSeenByServer: string;
  };
  readonly third?: { readonly first: Exchange; readonly later: Exchange };
  readonly seconds: number;
}

export interface DemoOptions {
  readonly json: boolean;
  /** Ends the demo early, and cleanly. */
  readonly signal: AbortSignal;
}

/** Plays the demo. @throws TcpcryptError when this machine cannot, AbortError after `signal` */
export async function playDemo(options: DemoOptions): Promise<DemoReport> {
  checkRequirements();
  const before = machineState(PREFIX);
  const demo = new Demo(new Narrator(options.json), options.signal);
  try {
    await demo.play();
  } finally {
    await demo.strike();
  }
  const left = differences(before, machineState(PREFIX));
  demo.check(
    left.length === 0,
    `nothing is left behind${left.length > 0 ? `, except: ${left.join(', ')}` : ''}`,
  );
  return demo.finish();
}

class Demo {
  readonly #narrator: Narrator;
  readonly #signal: AbortSignal;
  readonly #started = performance.now();
  readonly #checks: { ok: boolean; what: string }[] = [];
  readonly #undo: (() => Promise<void> | void)[] = [];
  #report: Partial<DemoReport> = {};

  constructor(narrator: Narrator, signal: AbortSignal) {
    this.#narrator = narrator;
    this.#signal = signal;
  }

  async play(): Promise<void> {
    const n = this.#narrator;
    n.line();
    n.line(`  ${n.style('tcpcrypt', 'bold')}: TCP that encrypts itself (RFC 8547, RFC 8548)`);
    n.line();
    n.line(`  ${n.style('alice', 'bold')} curl ────── router tcpdump ────── ${n.style('bob', 'bold')} nginx`);
    n.line(`                        └──────────────── ${n.style('carol', 'bold')} nginx, without tcpcrypt`);
    const lab = await Lab.create({ name: 'demo' });
    this.#undo.push(() => lab.destroy());
    const alice = lab.host('alice');
    const bob = lab.host('bob');
    const carol = lab.host('carol');
    const letter = await serve(bob, lab.directory);
    const carolsLetter = await serve(carol, lab.directory);

    n.heading('1. Without tcpcrypt');
    const plain = await this.#exchange(lab, alice, bob);
    this.#show(plain.exchange);
    this.check(plain.exchange.plaintextSeen, 'the router reads question and answer');
    this.check(plain.exchange.sha256 === letter, 'the file arrived unchanged');

    n.heading('2. With tcpcrypt: the same curl, the same nginx');
    const daemonA = await this.#switchOn(alice);
    const daemonB = await this.#switchOn(bob);
    n.say(n.style('tcpcrypt up; tcpcrypt daemon   (on alice and on bob)', 'dim'));
    const { exchange, segments } = await this.#exchange(lab, alice, bob);
    this.#show(exchange);
    const secure = ({ event }: { event?: string }): boolean => event === 'secure';
    const atA = await daemonA.line(secure);
    const atB = await daemonB.line(secure);
    n.line();
    n.fact('negotiated', `${atA.tepName} (${atA.tep}), ${atA.cipherName} (${atA.cipher})`);
    n.fact('session ID, alice', atA.sessionId ?? 'none', 'green');
    n.fact('session ID, bob', atB.sessionId ?? 'none', 'green');
    const clientSeen = lastClient(bob, lab.directory);
    n.fact('nginx saw client', clientSeen);
    n.line();
    this.check(exchange.sha256 === letter, 'the file arrived unchanged');
    this.check(handshakeHasOption(segments), 'option 69 (ENO) is in SYN, SYN-ACK and first ACK');
    this.check(!exchange.plaintextSeen, 'the router sees no plaintext, in neither direction');
    this.check(
      atA.sessionId !== undefined && atA.sessionId.length === 66 && atA.sessionId === atB.sessionId,
      'both ends have the same session ID of 33 bytes',
    );
    this.check(clientSeen === alice.address4, "nginx saw alice's own address");

    n.heading('3. A third host that does not know tcpcrypt');
    const first = await this.#exchange(lab, alice, carol);
    n.say('first contact: encryption was offered, and not taken up');
    this.#showHandshake(first.exchange);
    const later = await this.#exchange(lab, alice, carol);
    n.say('from then on: end to end, outside the daemon');
    this.#showHandshake(later.exchange);
    const bothArrived = first.exchange.sha256 === carolsLetter && later.exchange.sha256 === carolsLetter;
    this.check(bothArrived, 'the file arrived unchanged, both times');
    this.check(
      first.exchange.plaintextSeen && !later.segments.some(({ options }) => hasEno(options)),
      'that was ordinary TCP',
    );

    n.heading('4. Switching off');
    const codes = [await daemonA.stop(), await daemonB.stop()];
    this.check(
      codes.every((code) => code === 0),
      'the daemons stopped',
    );
    const rules = [alice, bob].map((host) => host.enter('nft', ['list', 'ruleset'])).join('');
    this.check(rules.trim() === '', 'no firewall rule stayed on alice and bob');
    const after = await this.#exchange(lab, alice, bob);
    this.check(after.exchange.sha256 === letter, 'alice and bob still talk, in plain TCP');

    this.#report = {
      plain: plain.exchange,
      encrypted: {
        ...exchange,
        tep: `${atA.tepName}`,
        cipher: `${atA.cipherName}`,
        sessionIds: { alice: `${atA.sessionId}`, bob: `${atB.sessionId}` },
        clientSeenByServer: clientSeen,
      },
      third: { first: first.exchange, later: later.exchange },
    };
  }

  /** Takes the scenery down, whatever has been put up. */
  async strike(): Promise<void> {
    for (const undo of this.#undo.reverse()) await undo();
  }

  check(ok: boolean, what: string): void {
    this.#checks.push({ ok, what });
    this.#narrator.check(ok, what);
  }

  finish(): DemoReport {
    const ok = this.#checks.every((check) => check.ok);
    const seconds = Math.round((performance.now() - this.#started) / 100) / 10;
    const n = this.#narrator;
    n.line();
    n.line(
      ok
        ? `  ${n.style('All checks passed', 'bold', 'green')} in ${seconds} s.`
        : `  ${n.style('Some checks failed.', 'bold', 'red')}`,
    );
    return { ok, checks: this.#checks, ...this.#report, seconds };
  }

  async #switchOn(host: Host): Promise<DaemonProcess> {
    this.#signal.throwIfAborted();
    const { pins, undo } = loadKernelPart(host);
    this.#undo.push(undo);
    const daemon = await DaemonProcess.start(host, pins);
    this.#undo.push(async () => {
      await daemon.stop();
    });
    return daemon;
  }

  /** Has `client` fetch the letter from `server` while the router records what passes on the client's cable. */
  async #exchange(
    lab: Lab,
    client: Host,
    server: Host,
  ): Promise<{ exchange: Exchange; segments: CapturedSegment[] }> {
    this.#signal.throwIfAborted();
    const capture = await Capture.start(lab, client);
    let fetched: { command: string; sha256: string };
    let segments: CapturedSegment[];
    try {
      fetched = await fetchLetter(client, server);
    } finally {
      segments = await capture.stop();
    }
    this.#signal.throwIfAborted();
    return { exchange: { ...fetched, ...observe(segments, client) }, segments };
  }

  #show(exchange: Exchange): void {
    const n = this.#narrator;
    n.say(n.style(`alice$ ${exchange.command}`, 'bold'));
    n.line();
    this.#showHandshake(exchange);
    for (const [who, payload] of [
      ['alice → bob', exchange.firstClientPayload],
      ['bob → alice', exchange.firstServerPayload],
    ] as const) {
      n.line();
      n.say(n.style(`first bytes ${who}, as the router sees them`, 'dim'));
      for (const line of hexDump(Buffer.from(payload, 'hex'), 4)) {
        n.say(n.style(line, exchange.plaintextSeen ? 'red' : 'green'));
      }
    }
    n.line();
  }

  #showHandshake(exchange: Exchange): void {
    const n = this.#narrator;
    const options = (names: readonly string[]): string =>
      names
        .map((name) => (name.startsWith('ENO') ? n.style(name, 'yellow') : n.style(name, 'dim')))
        .join(', ');
    n.fact('SYN', options(exchange.syn));
    n.fact('SYN-ACK', options(exchange.synAck));
    n.fact('first ACK', options(exchange.firstAck));
  }
}

const hasEno = (options: Uint8Array): boolean => findOption(options, TCP_OPTION_ENO) !== undefined;

/** SYN, SYN-ACK and the segment after it. */
function handshake(segments: readonly CapturedSegment[]): (CapturedSegment | undefined)[] {
  const syn = segments.find(isSyn);
  const synAck = segments.find(isSynAck);
  const firstAck = segments.find(
    (segment) => !segment.flags.includes('S') && segment.sourcePort === syn?.sourcePort,
  );
  return [syn, synAck, firstAck];
}

function handshakeHasOption(segments: readonly CapturedSegment[]): boolean {
  return handshake(segments).every((segment) => segment !== undefined && hasEno(segment.options));
}

function observe(segments: readonly CapturedSegment[], client: Host): Omit<Exchange, 'command' | 'sha256'> {
  const [syn, synAck, firstAck] = handshake(segments);
  const firstPayload = (fromClient: boolean): string =>
    segments
      .find(({ source, payload }) => (source === client.address4) === fromClient && payload.length > 0)
      ?.payload.subarray(0, 64)
      .reduce((text, byte) => text + byte.toString(16).padStart(2, '0'), '') ?? '';
  // All payload in the order of its arrival: a marker that is cut in two by segmentation is still found.
  const payload = [true, false].map((fromClient) =>
    Buffer.concat(
      segments
        .filter(({ source }) => (source === client.address4) === fromClient)
        .map(({ payload }) => payload),
    ),
  );
  return {
    syn: explainOptions(syn?.options ?? new Uint8Array(), true),
    synAck: explainOptions(synAck?.options ?? new Uint8Array(), true),
    firstAck: explainOptions(firstAck?.options ?? new Uint8Array(), false),
    segments: segments.length,
    firstClientPayload: firstPayload(true),
    firstServerPayload: firstPayload(false),
    plaintextSeen: payload.some((bytes) => bytes.includes(QUESTION_MARKER) || bytes.includes(ANSWER_MARKER)),
  };
}
