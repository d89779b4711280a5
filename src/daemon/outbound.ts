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
import type { CarriedConnections } from '../kernel/carried.js';
import type { KnownPlain } from '../kernel/known-plain.js';
import type { HeldPacket } from '../kernel/nfqueue.js';
import { NfQueue } from '../kernel/nfqueue.js';
import { MARK } from '../kernel/packet-marks.js';
import type { Segment } from '../kernel/segment.js';
import type { Wishes } from '../kernel/wishes.js';
import { withoutStreams } from '../socket/bare-socket.js';
import { type Dialled, dial } from '../socket/dial.js';
import type { Encryption } from '../socket/options.js';
import { reset } from '../socket/transport.js';
import { TransientMap } from '../transient-map.js';
import { type Capacity, isOutOfFiles, isOutOfPorts } from './capacity.js';
import type { ConnectionEntry, ConnectionLog } from './connection-log.js';
import { canonical, type Endpoint, endpointText, familyOf, localEnd, remoteEnd } from './endpoint.js';
import { Expected, ExpectedConnections } from './expected.js';
import { isPrivileged, prepareFarSocket, relayable } from './far-socket.js';
import { heed } from './heed.js';
import type { HostAuthentication } from './host-authentication.js';
import { expecting, isKilled, isTimeout, Lessons } from './lessons.js';
import type { PathMemory, PathResult } from './path-memory.js';
import { type Published, Publisher } from './publisher.js';
import { Relay, type RelayObserver } from './relay.js';
import { TransparentListener } from './transparent.js';

/** The most that the kernel part knows: more than a connection has SYNs. */
const MAX_SYN_TRIES = 255;
/** Milliseconds in which the application's released SYN must arrive at the relay port; longer only on a machine in need. */
export const ARRIVAL_TIMEOUT = 60_000;

/** As {@link Expected} has it, whoever has told us the address. */
const nameOf = (end: Endpoint | undefined): string =>
  end === undefined ? '' : endpointText({ address: canonical(end.address), port: end.port });

/** ECONNREFUSED, in contrast, is the answer to a SYN. */
const isReset = (error: Error | undefined): boolean =>
  (error as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET';

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
  readonly #publisher: Publisher;
  readonly #queue: NfQueue;
  readonly #listener: TransparentListener;
  readonly #expected = new ExpectedConnections((expected) => this.#gone(expected));
  readonly #lessons: Lessons;
  /** By number of the connection. */
  readonly #relays = new TransientMap<number, Relay>();

  private constructor(options: OutboundOptions, listener: TransparentListener) {
    this.#options = options;
    this.#publisher = new Publisher(options.carried, options.log);
    this.#private = { ...options.encryption, mode: 'required', synTries: MAX_SYN_TRIES };
    this.#listener = listener;
    this.#lessons = new Lessons(options.memory, options.knownPlain, (to) => this.#expected.hasTowards(to));
    options.capacity.watch(() => this.#relays.size + this.#expected.size);
    listener.onConnection((local) => this.#arrived(local));
    this.#queue = NfQueue.open({
      queue: options.queue,
      maxHeld: options.capacity.maxHeld * 2,
      onPacket: (held) => this.#held(held),
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

  get relays(): Pick<TransientMap<number, Relay>, 'size' | 'values'> {
    return this.#relays;
  }

  /** Connections whose SYN is held, or released and not yet arrived. */
  get awaited(): number {
    return this.#expected.size;
  }

  /** SYNs pass from now on, those that are held as well; who has been sent to the relay may still arrive. */
  async stopTaking(): Promise<void> {
    await this.#queue.close();
    for (const expected of this.#expected) {
      if (expected.relay !== undefined) continue;
      expected.attempt?.destroy();
      this.#forget(expected);
    }
  }

  /** Stops taking connections; those that are relayed go on. */
  async close(): Promise<void> {
    await this.stopTaking();
    this.#listener.close();
    for (const expected of this.#expected) {
      if (expected.relay !== 'reset') expected.relay?.abort();
      this.#forget(expected);
    }
    this.#expected.close();
  }

  #held({ id, mark, segment: syn }: HeldPacket): void {
    if (syn === undefined || !syn.flags.syn || syn.flags.ack) {
      this.#queue.accept(id);
      return;
    }
    const { capacity, log, memory, wishes } = this.#options;
    const destination = { address: syn.destination, port: syn.destinationPort };
    const tuple = { local: { address: syn.source, port: syn.sourcePort }, remote: destination };
    const wish = wishes.ofConnection(tuple);
    const isPrivate = (mark & MARK.PRIVATE) !== 0;
    const encryption = heed(
      isPrivate ? this.#privateTo(destination, syn.sourcePort) : this.#options.encryption,
      wish,
    );
    const mayBePlain = !isPrivate && wish?.mandatory !== true;
    if (encryption === undefined) {
      log.count('outboundUnwanted');
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const asked = Date.now();
    const insists = wish?.enabled === true || !mayBePlain;
    if (!insists && memory.isPlain(destination.address, destination.port, asked)) {
      log.count('outboundKnownPlain');
      this.#queue.accept(id);
      this.#lessons.leaveInPeace(destination);
      return;
    }
    if (!relayable(syn) || !this.#expected.waits(syn)) {
      log.count('outboundNotRelayable');
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const [from, to] = [endpointText(tuple.local), endpointText(destination)];
    const earlier = this.#expected.find(from, to);
    if (earlier !== undefined) {
      // A retransmission: the first copy is still held, or it was released and did not arrive.
      if (earlier.relay === undefined) this.#queue.drop(id);
      else this.#accept(id, mark, MARK.REDIRECT);
      return;
    }
    const limit = this.#expected.size >= capacity.maxHeld ? 'held' : capacity.exhausted;
    if (limit !== undefined) {
      log.count('outboundShed');
      log.shedding.shed(limit);
      this.#accept(id, mark, mayBePlain ? 0 : MARK.REFUSE);
      return;
    }
    const suspicion = memory.suspicion(destination.address, destination.port, asked);
    const expected = new Expected(
      tuple,
      from,
      to,
      syn,
      mayBePlain ? expecting(suspicion, encryption) : encryption,
      wish === undefined && encryption.auth === undefined,
      asked,
    );
    this.#expected.add(expected);
    this.#ask(expected, syn, id, mark);
  }

  #privateTo({ address, port }: Endpoint, localPort: number): Encryption {
    const auth = this.#options.hosts.of('outbound', { remote: address, port, localPort });
    return auth === undefined ? this.#private : { ...this.#private, aware: true, auth };
  }

  /** Connects to the far host, in the application's stead. */
  #ask(expected: Expected, syn: Segment, id: number, mark: number): void {
    const { address, port } = expected.tuple.remote;
    try {
      expected.attempt = dial(
        {
          host: address,
          port,
          family: familyOf(address),
          // A privileged port is bound by prepareFarSocket, and its address with it.
          localAddress: isPrivileged(syn.sourcePort) ? undefined : syn.source,
          prepare: (fd) => prepareFarSocket(fd, syn),
        },
        expected.encryption,
        (error, far) => {
          if (far !== undefined) this.#answered(expected, id, mark, far);
          else if (expected.givenUp) this.#givenUp(expected, id);
          else if (isReset(error)) this.#reset(expected, id, mark);
          else this.#unreachable(expected, id, mark, error);
        },
      );
    } catch (error) {
      this.#unreachable(expected, id, mark, error);
    }
  }

  /** The application has lost its patience. */
  #gone(expected: Expected): void {
    const { relay } = expected;
    if (relay === undefined) {
      expected.givenUp = true;
      expected.attempt?.destroy();
      return;
    }
    this.#forget(expected);
    if (relay === 'reset') return;
    this.#options.log.count('outboundAbandoned');
    relay.abort();
  }

  #givenUp(expected: Expected, id: number): void {
    this.#options.log.count('outboundAbandoned');
    this.#forget(expected);
    this.#queue.drop(id);
  }

  /** The far host answered: the application may come. */
  #answered(expected: Expected, id: number, mark: number, far: Dialled): void {
    const { log } = this.#options;
    const { tuple, encryption } = expected;
    // If our own kernel part has gone meanwhile, that says nothing about the far host.
    if (far.outcome.result === 'plain' && far.outcome.reason !== 'ERR_TCPCRYPT_KERNEL_ABSENT')
      this.#learn(expected, far.outcome.reason === 'ERR_TCPCRYPT_ENO_GIVEN_UP' ? 'drops-option' : 'plain');
    if (encryption.mode === 'required' && far.outcome.result === 'plain') {
      log.refused('outbound', tuple.local, tuple.remote, far.outcome.reason);
      const attempt = far.opened?.attempt;
      if (attempt !== undefined) encryption.resumption.cache.settle(attempt, 'lost');
      this.#refuse(far.transport);
      this.#forget(expected);
      this.#accept(id, mark, MARK.REFUSE);
      return;
    }
    const entry = log.open('outbound', tuple.local, tuple.remote);
    const published = this.#publisher.publish({
      tuple,
      opener: 'active',
      state: far.state,
      aware: encryption.auth !== undefined,
    });
    // Now the application may see its connection; while it does, the relay is made ready for it.
    this.#release(expected, id, mark);
    const dialled = { ...far, transport: withoutStreams(far.transport) };
    const relay = new Relay(dialled, encryption, this.#observer(expected, entry, published));
    entry.channel = relay.channel;
    if (encryption.mode === 'required') entry.policy = 'private';
    this.#relays.set(entry.id, relay);
    expected.relay = relay;
  }

  #observer(expected: Expected, entry: ConnectionEntry, published: Published): RelayObserver {
    const answered = Date.now();
    return {
      onReady: (ready) => {
        published.ready(ready.channel);
        entry.ready(ready.channel);
        // Resumed sessions have keys before anything has come back.
        if (ready.channel.encrypted && !ready.channel.resumed) this.#learn(expected, 'encrypted');
      },
      onEnd: (ended, ending) => {
        if (isKilled(ended, ending, Date.now() - answered)) this.#learn(expected, 'kills-ciphertext');
        else if (ended.channel.resumed && ended.channel.dataReceived > 0) this.#learn(expected, 'encrypted');
        this.#relays.delete(entry.id);
        published.end();
        entry.end(ended.channel, ending);
      },
    };
  }

  /** The far host accepted, and reset before we looked: so shall the application find it, without a second attempt. */
  #reset(expected: Expected, id: number, mark: number): void {
    this.#release(expected, id, mark);
    expected.relay = 'reset';
  }

  /** The application's SYN goes on its way to the relay port, where it arrives in a later turn of the loop. */
  #release(expected: Expected, id: number, mark: number): void {
    expected.deadline = Date.now() + ARRIVAL_TIMEOUT;
    this.#accept(id, mark, MARK.REDIRECT);
  }

  /** Let the application hear it from the network itself. */
  #unreachable(expected: Expected, id: number, mark: number, error: unknown): void {
    const { log } = this.#options;
    const [files, ports] = [isOutOfFiles(error), isOutOfPorts(error)];
    if (files || ports) log.shedding.shed(files ? 'files' : 'ports');
    log.count(files ? 'outboundShed' : ports ? 'outboundNoLocalPort' : 'outboundUnreachable');
    log.failures.count((error as NodeJS.ErrnoException).code);
    log.debug('far host not reached', { to: expected.to, error });
    this.#forget(expected);
    if (expected.encryption.mode === 'opportunistic') this.#queue.accept(id);
    // Its own patience is at an end as well: it need not be told that it was refused.
    else if (isTimeout(error)) this.#queue.drop(id);
    else this.#accept(id, mark, MARK.REFUSE);
  }

  #learn({ tuple, teaches, asked }: Expected, result: PathResult): void {
    if (teaches) this.#lessons.learn(tuple.remote, result, asked);
  }

  /** @param bits of ours, added to the mark */
  #accept(id: number, mark: number, bits: number): void {
    this.#queue.accept(id, (mark | bits) >>> 0);
  }

  #arrived(local: TcpSocket): void {
    const to = nameOf(localEnd(local));
    // An application that has reset its connection before it was accepted has no address any more. Where only one on its
    // way to that destination is expected, it is that one; otherwise the time decides.
    const from = remoteEnd(local);
    const expected =
      from === undefined ? this.#expected.onlyOneTowards(to) : this.#expected.find(nameOf(from), to);
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

  #refuse(local: TcpSocket): void {
    local.on('error', () => {});
    reset(local);
  }

  #forget(expected: Expected): void {
    if (this.#expected.delete(expected) && !this.#expected.hasTowards(expected.to))
      this.#lessons.leaveInPeace(expected.tuple.remote);
  }
}
