/** The ways in which the programs of the benchmark open connections, as data that can be passed to another process. */
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import * as tls from 'node:tls';
import * as tcpcrypt from '#src/index.js';
import { agree, encipher } from './arithmetic.js';
import { type AuthenticationSpec, ofClient, ofServer } from './authentication.js';

export type Connector = {
  readonly host: string;
  readonly port: number;
  /** Into memory of our own (`onread`), and not into new memory for each read. */
  readonly intoOwnMemory?: boolean;
} & (
  | { readonly kind: 'plain' | 'arithmetic' }
  | { readonly kind: 'tls'; readonly resume: boolean }
  | {
      readonly kind: 'tcpcrypt';
      readonly mode: tcpcrypt.Mode;
      readonly auth?: AuthenticationSpec;
      /** All but the first one; default: none. */
      readonly resume?: boolean;
    }
);

export type Listener = { readonly port: number } & (
  | { readonly kind: 'plain' | 'arithmetic' }
  | { readonly kind: 'tls'; readonly key: string; readonly certificate: string }
  | {
      readonly kind: 'tcpcrypt';
      readonly mode: tcpcrypt.Mode;
      readonly auth?: AuthenticationSpec;
      readonly resume?: boolean;
      /** Milliseconds for which connections share a key pair, if not as usual. */
      readonly keyLifetime?: number;
    }
);

/** TLS as close to the default of tcpcrypt as can be: X25519, AES-128-GCM. */
const TLS = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
  ecdhCurve: 'X25519',
} as const;

let session: Buffer | undefined;
/** The first connections of a client have nothing to resume yet; later on, a session may have been taken already. */
const FRESH_AT_MOST = 64;
let fresh = 0;
let opened = 0;
/** A mechanism is made once, and used for all connections. */
let auth: tcpcrypt.Authentication | undefined;

/**
 * `ready` is called when data can flow. Options are written without spreads: of two in one object, V8 makes a new hidden
 * class each time, which is slow for whoever reads it.
 */
export function connect(connector: Connector, ready: (stream: Duplex) => void): Duplex {
  const { host, port, intoOwnMemory = false } = connector;
  let socket: Duplex;
  const buffer = intoOwnMemory && Buffer.alloc(65_536);
  const callback = (length: number, into: Uint8Array): boolean =>
    socket.emit('data', into.subarray(0, length));
  const target = buffer
    ? { host, port, noDelay: true, onread: { buffer, callback } }
    : { host, port, noDelay: true };
  switch (connector.kind) {
    case 'plain':
      socket = net.connect(target, () => ready(socket));
      break;
    case 'arithmetic':
      socket = net.connect(target, () => {
        agree('fresh');
        encipher(socket);
        ready(socket);
      });
      break;
    case 'tls':
      socket = connectByTls(target, connector.resume, ready);
      break;
    case 'tcpcrypt':
      socket = connectByTcpcrypt(target, connector, ready);
      break;
  }
  return socket;
}

function connectByTls(
  target: tls.ConnectionOptions,
  resume: boolean,
  ready: (stream: Duplex) => void,
): Duplex {
  const kept = resume && session !== undefined ? { session } : {};
  const socket = tls.connect({ ...target, rejectUnauthorized: false, ...TLS, ...kept }, () => {
    if (resume && kept.session !== undefined && !socket.isSessionReused())
      throw new Error('the TLS session was not resumed');
    ready(socket);
  });
  if (resume && session === undefined)
    socket.on('session', (ticket) => {
      session = ticket;
    });
  socket.setNoDelay(true);
  return socket;
}

function connectByTcpcrypt(
  target: tcpcrypt.ConnectOptions,
  { mode, auth: spec, resume: resumption = false }: Connector & { kind: 'tcpcrypt' },
  ready: (stream: Duplex) => void,
): Duplex {
  if (spec !== undefined) auth ??= { offer: [ofClient(spec)] };
  const options = auth === undefined ? { mode, resumption } : { mode, resumption, auth };
  const socket = tcpcrypt.connect(Object.assign(options, target), () => {
    if (!socket.encrypted) throw new Error(`not encrypted: ${socket.plainReason}`);
    if (resumption) {
      opened += 1;
      fresh += socket.resumed ? 0 : 1;
      if (fresh > FRESH_AT_MOST + opened / 20) throw new Error(`${fresh} of ${opened} were not resumed`);
    }
    if (auth !== undefined && socket.peer === undefined) throw new Error('not authenticated');
    ready(socket);
  });
  return socket;
}

/** @param host the address to listen at */
export async function listen(
  listener: Listener,
  host: string,
  accepted: (stream: Duplex) => void,
): Promise<void> {
  const { port } = listener;
  switch (listener.kind) {
    case 'plain':
      net.createServer({ noDelay: true }, accepted).listen({ port, host, backlog: 4096 });
      return;
    case 'arithmetic': {
      const server = net.createServer({ noDelay: true }, (stream) => {
        agree('shared');
        encipher(stream);
        accepted(stream);
      });
      server.listen({ port, host, backlog: 4096 });
      return;
    }
    case 'tls': {
      const key = readFileSync(listener.key);
      const cert = readFileSync(listener.certificate);
      const server = tls.createServer({ key, cert, noDelay: true, ...TLS }, accepted);
      server.listen({ port, host, backlog: 4096 });
      return;
    }
    case 'tcpcrypt': {
      const { mode, auth: spec, resume: resumption = false, keyLifetime } = listener;
      const options = {
        resumption,
        ...(keyLifetime === undefined ? {} : { keyLifetime }),
        ...(spec === undefined ? {} : { auth: { offer: [await ofServer(spec)] } }),
      };
      const server = tcpcrypt.createServer({ mode, noDelay: true, ...options }, accepted);
      server.listen({ port, host, backlog: 4096 });
      return;
    }
  }
}
