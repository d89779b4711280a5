/** A peer that negotiates ENO in earnest, and then sends what it likes: for tests with hostile bytes. */
import { once } from 'node:events';
import net from 'node:net';
import { enoOutcome, openEnoSocket } from '#src/kernel/eno-socket.js';
import { bind } from '#src/kernel/libc.js';
import { sockaddr } from '#src/kernel/sockaddr.js';
import { activeOffer, negotiatedFromTranscript, passiveOffer, Session } from '#src/session/index.js';
import { descriptorOf, transportOf } from '#src/socket/transport.js';

export class RawPeer {
  readonly session: Session;
  /** All that came. */
  received = Buffer.alloc(0);
  /** "end", or the error's code, once it is over. */
  readonly over: Promise<string>;

  private constructor(readonly tcp: net.Socket) {
    const outcome = enoOutcome(descriptorOf(tcp));
    if (outcome.result !== 'encrypt') throw new Error(`not negotiated: ${outcome.reason}`);
    const negotiated = negotiatedFromTranscript(outcome.transcript, outcome.role);
    if (negotiated.result !== 'encrypt' || negotiated.kind !== 'fresh') throw new Error('not fresh');
    this.session = new Session({ negotiated, ciphers: [0x0001] });
    this.over = new Promise((resolve) => {
      tcp.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      tcp.on('end', () => resolve('end'));
    });
    tcp.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
    });
  }

  /** As client: host A. */
  static async connect(port: number): Promise<RawPeer> {
    const tcp = transportOf(openEnoSocket(4, { contents: activeOffer([0x23]) }));
    tcp.connect({ port, host: '127.0.0.1' });
    await once(tcp, 'connect');
    return new RawPeer(tcp);
  }

  /** As server: host B, for one connection. */
  static async listen(): Promise<{ port: number; accepted: Promise<RawPeer>; close: () => void }> {
    const fd = openEnoSocket(4, { contents: passiveOffer([0x23]) });
    bind(fd, sockaddr('127.0.0.1', 0));
    const server = new net.Server({ allowHalfOpen: true });
    const accepted = new Promise<RawPeer>((resolve, reject) => {
      server.once('connection', (tcp) => {
        try {
          resolve(new RawPeer(tcp));
        } catch (error) {
          reject(error);
        }
      });
    });
    server.listen({ fd });
    await once(server, 'listening');
    return { port: (server.address() as net.AddressInfo).port, accepted, close: () => server.close() };
  }

  /** Our correct Init message. */
  async init(): Promise<Buffer> {
    if (this.session.role === 'B') {
      while (this.session.state === 'exchanging') {
        if (this.received.length > 0) this.session.handleData(this.take());
        else await once(this.tcp, 'data');
      }
    }
    return Buffer.concat(this.session.pollTransmit());
  }

  /** The whole key exchange, correctly. */
  async open(): Promise<void> {
    this.tcp.write(await this.init());
    while (this.session.state === 'exchanging') {
      if (this.received.length === 0) await once(this.tcp, 'data');
      this.session.handleData(this.take());
    }
  }

  /** The frames that carry `data`. */
  frames(data: string): Buffer {
    this.session.write(Buffer.from(data));
    return Buffer.concat(this.session.pollTransmit());
  }

  take(): Buffer {
    const taken = this.received;
    this.received = Buffer.alloc(0);
    return taken;
  }
}
