/**
 * Connections that programs on this host open.
 *
 *   application          daemon                                   far host
 *     │ SYN ──────────────▶ held (NFQUEUE)
 *     │                     │ SYN + ENO ─────────────────────────────▶ │
 *     │                     │ ◀───────────────────────────── SYN-ACK   │
 *     │ ◀── SYN-ACK ────────┤ released with a mark: TPROXY
 *     │ ◀═════ plain ══════▶│◀════ encrypted, or plain at first ═════▶ │
 *
 * Refused, unreachable, timed out: the SYN is released as it is, and the application hears from the network
 * itself. Destinations that cannot encrypt are remembered, see path-memory.ts, and the kernel is told: their next SYNs pass
 * without us. (Not while a SYN to there is held: its retransmission must come to us as well, and not go out beside ours.)
 *
 * Under `private`, which the SYN's mark tells, no SYN is ever released to go out by itself: it is redirected, or
 * refused. (The rules would refuse it as well: src/kernel/policy-rules.ts.)
 */
import type { Socket as TcpSocket } from 'node:net';
import { TcpcryptError } from '../errors.js';
import type { CarriedConnections } from '../kernel/carried.js';
import type { KnownPlain } from '../kernel/known-plain.js';
import type { HeldSegment } from '../kernel/nfqueue.js';
import { NfQueue } from '../kernel/nfqueue.js';
import { MARK } from '../kernel/packet-marks.js';
import { readSegment, type Segment } from '../kernel/segment.js';
import { SockDiag } from '../kernel/sock-diag.js';
import type { Wishes } from '../kernel/wishes.js';
import { type Dialled, dial } from '../socket/dial.js';
import type { Encryption } from '../socket/options.js';
import { reset } from '../socket/transport.js';
import { type Capacity, isOutOfFiles } from './capacity.js';
import type { ConnectionLog } from './connection-log.js';
import { canonical, type Endpoint, endpointText, familyOf } from './endpoint.js';
import { isPrivileged, prepareFarSocket, relayable } from './far-socket.js';
import { heed } from './heed.js';
import type { HostAuthentication } from './host-authentication.js';
import type { PathMemory, PathResult } from './path-memory.js';
import { Publisher } from './publisher.js';
import { type Ending, Relay } from './relay.js';
import { TransparentListener } from './transparent.js';

/**
 * Milliseconds. A key exchange that takes longer is a failed one if the application loses its patience; where that
 * is to be expected, as other hosts of the network failed so, ours ends then as well.
 */
export const SLOW_KEY_EXCHANGE = 5_000;
/** The most that the kernel part knows: more than a connection has SYNs. */
const MAX_SYN_TRIES = 255;
/** Milliseconds in which the application's released SYN must arrive at the relay port; longer only on a machine in need. */
export const ARRIVAL_TIMEOUT = 60_000;

/** Milliseconds between two looks whether an application still waits. */
const LOOK = 2_000;

/** One application connection between its SYN and its arrival at the relay port. */
interface Expected {
  readonly key: string;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** In mode 'required' by the policy `private`, or because the application wishes it. */
  readonly encryption: Encryption;
  /** Whether the result is one of the path, and not of what the application wishes or the far host cannot prove. */
  readonly teaches: boolean;
  /** When the far host was asked (ms). */
  readonly asked: number;
  /** Once the far host has answered, and the SYN is released. */
  relay?: Relay | 'reset';
  attempt?: TcpSocket;
  readonly syn: Segment;
  /** Looks every now and then whether the application is still there: it need not say when it has lost its patience. */
  watch?: NodeJS.Timeout;
  givenUp?: boolean;
}

/** ECONNREFUSED, in contrast, is the answer to a SYN. */
const isReset = (error: Error | undefined): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET';

const isTimeout = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT';

/** Asks in a cheaper way where experience says that it will be in vain. */
function expecting(suspicion: PathResult | undefined, encryption: Encryption): Encryption {
  if (suspicion === 'drops-option') return { ...encryption, synTries: Math.min(1, encryption.synTries) };
  if (suspicion === 'kills-ciphertext')
    return { ...encryption, handshakeTimeout: Math.min(SLOW_KEY_EXCHANGE, encryption.handshakeTimeout) };
  return encryption;
}

/**
 * The far host agreed to encrypt, and then there was no key exchange: the path, or whoever answers there, lets the
 * option pass but not what follows.
 */
function isKilled({ channel, wasReady }: Relay, ending: Ending, milliseconds: number): boolean {
  if (!channel.encrypted || wasReady) return false;
  switch (ending.how) {
    case 'end':
      return false;
    case 'reset':
      return ending.by === 'far' || milliseconds >= SLOW_KEY_EXCHANGE;
    case 'error':
      return ending.error instanceof TcpcryptError
        ? ['peer', 'network', 'incompatible'].includes(ending.error.fault)
        : isTimeout(ending.error);
  }
}

const keyOf = (source: Endpoint, destination: Endpoint): string =>
  `${endpointText(source)} ${endpointText(destination)}`;

export interface OutboundOptions {
  readonly queue: number;
  readonly encryption: Encryption;
  readonly memory: PathMemory;
  /** What of the memory the kernel knows. */
  readonly knownPlain: KnownPlain;
  readonly log: ConnectionLog;
  readonly carried: CarriedConnections;
  readonly wishes: Wishes;
  readonly capacity: Capacity;
  readonly hosts: HostAuthentication;
  readonly onFailure: (error: Error) => void;
  readonly ipv6: boolean;
  /** Where to listen; otherwise where it is free. */
  readonly relayPort?: number;
}

export class Outbound {
  readonly #options: OutboundOptions;
  /** What is asked for under `private`: the option stays on every SYN. */
  readonly #private: Encryption;
  readonly #queue: NfQueue;
  readonly #diag = new SockDiag();
  readonly #listener: TransparentListener;
  /** By {@link keyOf}. */
  readonly #expected = new Map<string, Expected>();
  /** How many of them go to a destination, by {@link endpointText}. */
  readonly #asking = new Map<string, number>();
  readonly #relays = new Set<Relay>();

  private constructor(options: OutboundOptions, listener: TransparentListener) {
    this.#options = options;
    this.#private = { ...options.encryption, mode: 'required', synTries: MAX_SYN_TRIES };
    this.#listener = listener;
    options.capacity.watch(() => this.#relays.size + this.#expected.size);
    listener.onConnection((local) => this.#arrived(local));
    this.#queue = NfQueue.open({
      queue: options.queue,
      maxHeld: options.capacity.maxHeld * 2,
      onSegment: (held) => this.#held(held),
      onError: options.onFailure,
    });
  }

  /** Starts; SYNs come as soon as the steering rules are there. */
  static async open(options: OutboundOptions): Promise<Outbound> {
    const { ipv6, relayPort } = options;
    const listener = await TransparentListener.open(
      relayPort === undefined ? { ipv6 } : { ipv6, port: relayPort },
    );
    try {
      return new Outbound(options, listener);
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** Where TPROXY must deliver marked SYNs. */
  get port(): number {
    return this.#listener.port;
  }

  get relays(): ReadonlySet<Relay> {
    return this.#relays;
  }

  /** Connections whose SYN is held, or released and not yet arrived. */
  get awaited(): number {
    return this.#expected.size;
  }

  /** SYNs pass from now on, those that are held as well; who has been sent to the relay may still arrive. */
  async stopTaking(): Promise<void> {
    await this.#queue.close();
    for (const expected of this.#expected.values()) {
      if (expected.relay !== undefined) continue;
      expected.attempt?.destroy();
      this.#forget(expected);
    }
  }

  /** Stops taking connections; those that are relayed go on. */
  async close(): Promise<void> {
    await this.stopTaking();
    this.#listener.close();
    for (const expected of this.#expected.values()) {
      if (expected.relay !== 'reset') expected.relay?.abort();
      this.#forget(expected);
    }
    this.#diag.close();
  }

  #held({ id, mark, segment }: HeldSegment): void {
    const syn = readSegment(segment);
    if (syn === undefined || !syn.flags.syn || syn.flags.ack) {
      this.#queue.accept(id);
      return;
    }
    const source = { address: syn.source, port: syn.sourcePort };
    const destination = { address: syn.destination, port: syn.destinationPort };
    const { memory, log, wishes } = this.#options;
    const wish = wishes.ofConnection({ local: source, remote: destination });
    const isPrivate = (mark & MARK.PRIVATE) !== 0;
    const encryption = heed(
      isPrivate ? this.#privateTo(destination, source.port) : this.#options.encryption,
      wish,
    );
    const mayBePlain = !isPrivate && wish?.mandatory !== true;
    if (encryption === undefined) {
      log.count('outboundUnwanted');
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const insists = wish?.enabled === true || !mayBePlain;
    if (!insists && memory.isPlain(destination.address, destination.port, Date.now())) {
      log.count('outboundKnownPlain');
      this.#queue.accept(id);
      this.#leaveInPeace(destination);
      return;
    }
    if (!relayable(syn) || this.#diag.finds(syn) === false) {
      log.count('outboundNotRelayable');
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const key = keyOf(source, destination);
    const earlier = this.#expected.get(key);
    if (earlier !== undefined) {
      // A retransmission: the first copy is still held, or it was released and did not arrive.
      if (earlier.relay === undefined) this.#queue.drop(id);
      else this.#accept(id, mark, MARK.REDIRECT);
      return;
    }
    const { capacity } = this.#options;
    const limit = this.#expected.size >= capacity.maxHeld ? 'held' : capacity.exhausted;
    if (limit !== undefined) {
      log.count('outboundShed');
      log.shedding.shed(limit);
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const asked = Date.now();
    const suspicion = memory.suspicion(destination.address, destination.port, asked);
    const expected: Expected = {
      key,
      source,
      destination,
      syn,
      encryption: mayBePlain ? expecting(suspicion, encryption) : encryption,
      teaches: wish === undefined && encryption.auth === undefined,
      asked,
    };
    this.#expected.set(key, expected);
    const to = endpointText(destination);
    this.#asking.set(to, (this.#asking.get(to) ?? 0) + 1);
    this.#watch(expected, () => {
      expected.givenUp = true;
      expected.attempt?.destroy();
    });
    try {
      expected.attempt = dial(
        {
          host: destination.address,
          port: destination.port,
          family: familyOf(destination.address),
          // A privileged port is bound by prepareFarSocket, and its address with it.
          ...(isPrivileged(source.port) ? {} : { localAddress: source.address }),
          prepare: (fd) => prepareFarSocket(fd, syn),
        },
        expected.encryption,
        (error, far) => {
          if (far === undefined && expected.givenUp) this.#givenUp(expected, id);
          else if (far === undefined && isReset(error)) this.#reset(expected, id, mark);
          else if (far === undefined) this.#unreachable(expected, id, mark, error);
          else this.#answered(expected, id, mark, far);
        },
      );
    } catch (error) {
      this.#unreachable(expected, id, mark, error);
    }
  }

  #privateTo({ address, port }: Endpoint, localPort: number): Encryption {
    const auth = this.#options.hosts.of('outbound', { remote: address, port, localPort });
    return auth === undefined ? this.#private : { ...this.#private, aware: true, auth };
  }

  /** Calls `gone` when the application's socket is, or, from `deadline` on, in any case. */
  #watch(expected: Expected, gone: () => void, deadline = Number.POSITIVE_INFINITY): void {
    clearInterval(expected.watch);
    expected.watch = setInterval(() => {
      if (this.#diag.finds(expected.syn) !== false && Date.now() < deadline) return;
      clearInterval(expected.watch);
      gone();
    }, LOOK);
  }

  #givenUp(expected: Expected, id: number): void {
    this.#options.log.count('outboundAbandoned');
    this.#forget(expected);
    this.#queue.drop(id);
  }

  /** The far host answered: the application may come. */
  #answered(expected: Expected, id: number, mark: number, far: Dialled): void {
    const { log, carried } = this.#options;
    const { source, destination, encryption } = expected;
    if (far.outcome.result === 'plain')
      this.#learn(expected, far.outcome.reason === 'ERR_TCPCRYPT_ENO_GIVEN_UP' ? 'drops-option' : 'plain');
    if (encryption.mode === 'required' && far.outcome.result === 'plain') {
      log.refused('outbound', endpointText(source), endpointText(destination), far.outcome.reason);
      const attempt = far.opened?.attempt;
      if (attempt !== undefined) encryption.resumption.cache.settle(attempt, 'lost');
      this.#refuse(far.transport);
      this.#forget(expected);
      this.#accept(id, mark, MARK.REFUSE);
      return;
    }
    const entry = log.open('outbound', endpointText(source), endpointText(destination));
    const published = new Publisher(carried, log, far.fd, encryption.auth !== undefined).publish(
      { local: source, remote: destination },
      'active',
    );
    const answered = Date.now();
    const relay = new Relay(far, encryption, {
      onReady: (ready) => {
        published.ready(ready.channel);
        entry.ready(ready.channel);
        // Resumed sessions have keys before anything has come back.
        if (ready.channel.encrypted && !ready.channel.resumed) this.#learn(expected, 'encrypted');
      },
      onEnd: (ended, ending) => {
        if (isKilled(ended, ending, Date.now() - answered)) this.#learn(expected, 'kills-ciphertext');
        else if (ended.channel.resumed && ended.channel.dataReceived > 0) this.#learn(expected, 'encrypted');
        this.#relays.delete(ended);
        published.end();
        entry.end(ended.channel, ending);
      },
    });
    entry.channel = relay.channel;
    if (encryption.mode === 'required') entry.policy = 'private';
    this.#relays.add(relay);
    expected.relay = relay;
    const abandon = (): void => {
      this.#forget(expected);
      log.count('outboundAbandoned');
      relay.abort();
    };
    this.#watch(expected, abandon, Date.now() + ARRIVAL_TIMEOUT);
    this.#accept(id, mark, MARK.REDIRECT);
  }

  /** The far host accepted, and reset before we looked: so shall the application find it, without a second attempt. */
  #reset(expected: Expected, id: number, mark: number): void {
    expected.relay = 'reset';
    this.#watch(expected, () => this.#forget(expected), Date.now() + ARRIVAL_TIMEOUT);
    this.#accept(id, mark, MARK.REDIRECT);
  }

  /** Let the application hear it from the network itself. */
  #unreachable(expected: Expected, id: number, mark: number, error: unknown): void {
    if (isOutOfFiles(error)) this.#options.log.shedding.shed('files');
    this.#options.log.count(isOutOfFiles(error) ? 'outboundShed' : 'outboundUnreachable');
    this.#options.log.failures.count((error as NodeJS.ErrnoException).code);
    this.#options.log.debug('far host not reached', {
      to: endpointText(expected.destination),
      error,
    });
    this.#forget(expected);
    if (expected.encryption.mode === 'opportunistic') this.#queue.accept(id);
    // Its own patience is at an end as well: it need not be told that it was refused.
    else if (isTimeout(error)) this.#queue.drop(id);
    else this.#accept(id, mark, MARK.REFUSE);
  }

  #learn({ destination, teaches, asked }: Expected, result: PathResult): void {
    if (!teaches) return;
    const { memory, knownPlain } = this.#options;
    const { address, port } = destination;
    const now = Date.now();
    memory.learn(address, port, result, asked, now);
    if (result === 'encrypted') knownPlain.remove(address, port, now);
    else this.#leaveInPeace(destination);
  }

  #leaveInPeace(destination: Endpoint): void {
    if (this.#asking.has(endpointText(destination))) return;
    const { memory, knownPlain } = this.#options;
    const { address, port } = destination;
    const now = Date.now();
    const until = memory.plainUntil(address, port, now);
    if (until > now) knownPlain.add(address, port, until, now);
  }

  /** @param bits of ours, added to the mark */
  #accept(id: number, mark: number, bits: number): void {
    this.#queue.accept(id, (mark | bits) >>> 0);
  }

  #arrived(local: TcpSocket): void {
    const { remoteAddress, remotePort, localAddress, localPort } = local;
    const destination = { address: canonical(localAddress ?? ''), port: localPort ?? 0 };
    const expected =
      remoteAddress === undefined
        ? this.#gone(destination)
        : this.#expected.get(
            keyOf({ address: canonical(remoteAddress), port: remotePort ?? 0 }, destination),
          );
    if (expected?.relay === undefined) {
      // Not sent by us: some local program found the port.
      this.#options.log.count('uninvited');
      this.#refuse(local);
      return;
    }
    const { relay } = expected;
    this.#forget(expected);
    if (relay !== 'reset') relay.join(local);
    else this.#refuse(local);
  }

  /**
   * An application that has reset its connection before it was accepted has no address any more. Where only one
   * on its way to that destination is expected, it is that one; otherwise the time decides.
   */
  #gone({ address, port }: Endpoint): Expected | undefined {
    const [one, ...others] = [...this.#expected.values()].filter(
      ({ relay, destination }) =>
        relay !== undefined && destination.address === address && destination.port === port,
    );
    return others.length === 0 ? one : undefined;
  }

  #refuse(local: TcpSocket): void {
    local.on('error', () => {});
    reset(local);
  }

  #forget(expected: Expected): void {
    clearInterval(expected.watch);
    if (this.#expected.get(expected.key) !== expected) return;
    this.#expected.delete(expected.key);
    const to = endpointText(expected.destination);
    const others = (this.#asking.get(to) ?? 1) - 1;
    if (others > 0) {
      this.#asking.set(to, others);
      return;
    }
    this.#asking.delete(to);
    this.#leaveInPeace(expected.destination);
  }
}
