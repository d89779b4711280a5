/** What a program sees, compared with what it would see from node:net in the same situation. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  closing,
  failing,
  type Implementation,
  listening,
  NET,
  OURS,
  record,
  recordData,
} from './implementations.js';
import { KernelPart, needsRoot } from './kernel-part.js';

/** Runs to an observation that must be the same for every implementation. */
type Scenario = (implementation: Implementation) => Promise<unknown>;

/** A server and one client on it: what both saw until both were closed, and what each received. */
async function watch(
  { connect, createServer }: Implementation,
  options: {
    server?: net.ServerOpts;
    client?: Partial<net.TcpNetConnectOpts>;
    onConnection?: (peer: net.Socket) => void;
    onClient?: (client: net.Socket) => void;
  },
) {
  const { onConnection = () => {}, onClient = () => {} } = options;
  const received = { client: '', peer: '' };
  const server = createServer(options.server ?? {});
  const port = await listening(server);
  const peerClosed = new Promise<string[]>((resolve) => {
    server.once('connection', (peer) => {
      const log = recordData(peer);
      peer.on('data', (data) => {
        received.peer += data;
      });
      peer.once('close', () => resolve(log));
      onConnection(peer);
    });
  });
  const client = connect({ port, host: '127.0.0.1', ...options.client });
  const log = recordData(client);
  client.on('data', (data) => {
    received.client += data;
  });
  onClient(client);
  await closing(client);
  const peerLog = await peerClosed;
  server.close();
  return {
    client: log,
    peer: peerLog,
    received,
    counted: { clientRead: client.bytesRead, clientWritten: client.bytesWritten },
  };
}

const SCENARIOS: Record<string, Scenario> = {
  'request, then answer, both ended': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => peer.on('end', () => peer.end('world')),
      server: { allowHalfOpen: true },
      onClient: (client) => client.end('hello'),
    }),
  'the server ends first; the client closes by itself': (implementation) =>
    watch(implementation, { onConnection: (peer) => peer.end('bye') }),
  'the client ends first; the server closes by itself': (implementation) =>
    watch(implementation, { onClient: (client) => client.end('bye') }),
  'the server ends first; a half-open client goes on sending': (implementation) =>
    watch(implementation, {
      client: { allowHalfOpen: true },
      onConnection: (peer) => peer.end('only this'),
      onClient: (client) =>
        client.on('end', () => {
          client.write('still ');
          setTimeout(() => client.end('here'), 20);
        }),
    }),
  'the client ends first; a half-open server goes on sending': (implementation) =>
    watch(implementation, {
      server: { allowHalfOpen: true },
      onConnection: (peer) =>
        peer.on('end', () => {
          peer.write('still ');
          setTimeout(() => peer.end('here'), 20);
        }),
      onClient: (client) => client.end('only this'),
    }),
  'an idle server that was told to pause hears of the end': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => peer.pause(),
      onClient: (client) => client.end(),
    }),
  'a client that was told to pause before it was connected hears of nothing until it goes on': (
    implementation,
  ) =>
    watch(implementation, {
      onConnection: (peer) => peer.end('all'),
      onClient: (client) => {
        client.pause();
        client.once('ready', async () => {
          await sleep(50);
          client.emit('timeout'); // a mark in the log
          client.resume();
        });
      },
    }),
  'write and end before there is a connection': (implementation) =>
    watch(implementation, {
      onClient: (client) => {
        client.write('one ');
        client.write(Buffer.from('two '));
        client.write(new Uint8Array([0x33, 0x20]));
        client.write('34', 'hex');
        client.end(' Ende gut, ä', 'latin1');
      },
    }),
  'write after end': (implementation) =>
    watch(implementation, {
      server: { allowHalfOpen: true },
      onConnection: (peer) => peer.on('error', () => {}).on('end', () => peer.end()),
      onClient: (client) =>
        client.once('ready', () => {
          client.end('last');
          client.write('too late');
        }),
    }).then(({ client }) => client),
  'destroy with an error': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => peer.on('error', () => {}),
      onClient: (client) => client.once('ready', () => client.destroy(new Error('my own'))),
    }).then(({ client }) => client),
  'reset by the client': (implementation) =>
    watch(implementation, { onClient: (client) => client.once('ready', () => client.resetAndDestroy()) }),
  'destroySoon after a large write': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => {
        peer.write('x'.repeat(1_000_000));
        peer.destroySoon();
      },
    }),
  'destroy on finish loses nothing': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => {
        peer.on('finish', () => peer.destroy());
        peer.end('y'.repeat(1_000_000));
      },
    }),
  'timeout while idle': (implementation) =>
    watch(implementation, {
      onConnection: (peer) => peer.on('error', () => {}),
      onClient: (client) => {
        client.setTimeout(40);
        client.once('timeout', () => client.end());
      },
    }),
  'timeout in the options, and switched off again': (implementation) =>
    watch(implementation, {
      client: { timeout: 30 },
      onClient: (client) => {
        client.setTimeout(0);
        setTimeout(() => client.end(), 80);
      },
    }),
  'setNoDelay and setKeepAlive at any time': (implementation) =>
    watch(implementation, {
      client: { noDelay: true, keepAlive: true, keepAliveInitialDelay: 1000 },
      server: { noDelay: true, keepAlive: true },
      onClient: (client) => {
        assert.equal(client.setNoDelay(false).setKeepAlive(false), client);
        client.once('ready', () => client.setNoDelay(true).setKeepAlive(true, 5000).end());
        client.once('close', () => client.setNoDelay(true).setKeepAlive(true));
      },
    }),
  'setEncoding across the bytes of a character': (implementation) =>
    watch(implementation, {
      onClient: (client) => client.setEncoding('utf8'),
      onConnection: async (peer) => {
        peer.setNoDelay(true);
        for (const byte of Buffer.from('grün €')) {
          peer.write(Buffer.of(byte));
          await sleep(2);
        }
        peer.end();
      },
    }),
  'cork, uncork': (implementation) =>
    watch(implementation, {
      onClient: (client) => {
        client.cork();
        for (let i = 0; i < 100; i++) client.write(`${i} `);
        setTimeout(() => {
          client.uncork();
          client.end();
        }, 10);
      },
    }),
  'an empty write': (implementation) =>
    watch(implementation, {
      onClient: (client) => {
        client.write('');
        client.write(Buffer.alloc(0));
        client.end('x');
      },
    }),
};

/** Nobody answers, or nobody is asked. */
const FAILURES: Record<string, Scenario> = {
  'connection refused': async ({ connect, createServer }) => {
    const server = createServer();
    const port = await listening(server);
    server.close();
    await once(server, 'close');
    const client = connect({ port, host: '127.0.0.1' });
    const log = record(client);
    const closed = closing(client);
    const error = await failing(client);
    await closed;
    const { code, syscall, address, message } = error;
    return {
      log,
      code,
      syscall,
      address,
      ours: error.port === port,
      message: message.replace(`${port}`, 'PORT'),
    };
  },
  'all addresses of a name refuse': async ({ connect, createServer }) => {
    const server = createServer();
    const port = await listening(server);
    server.close();
    await once(server, 'close');
    const client = connect({ port, host: 'two.test', lookup: lookupTo('::1', '127.0.0.1') });
    const log = record(client);
    const closed = closing(client);
    const error = await failing(client);
    await closed;
    return { log, code: error.code, codes: error.errors?.map(({ code }) => code) };
  },
  'name not found': async ({ connect }) => {
    const client = connect({
      port: 80,
      host: 'nowhere.test',
      lookup: (host, _options, callback) =>
        process.nextTick(
          callback,
          Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' }),
          [],
        ),
    });
    const log = record(client);
    await closing(client);
    return log;
  },
  'destroyed at once': async ({ connect }) => {
    const client = connect({ port: 9, host: '127.0.0.1' });
    const log = record(client);
    client.destroy();
    await closing(client);
    await sleep(20);
    return { log, state: client.readyState, connecting: client.connecting };
  },
  'destroyed while the name is looked up': async ({ connect }) => {
    const client = connect({
      port: 9,
      host: 'slow.test',
      lookup: (_host, _options, callback) =>
        setTimeout(callback, 20, null, [{ address: '127.0.0.1', family: 4 }]),
    });
    const log = record(client);
    setImmediate(() => client.destroy());
    await closing(client);
    await sleep(40);
    return log;
  },
  'timeout while the name is looked up': async ({ connect }) => {
    const client = connect({ port: 9, host: 'never.test', timeout: 20, lookup: () => {} });
    const log = record(client);
    const alive = setTimeout(() => {}, 5000); // a timeout alone keeps no process running
    await once(client, 'timeout');
    clearTimeout(alive);
    client.destroy();
    await closing(client);
    return { log, timeout: client.timeout };
  },
  'a signal that was aborted before': async ({ connect }) => {
    const client = connect({ port: 9, host: '127.0.0.1', signal: AbortSignal.abort() });
    const log = record(client);
    await closing(client);
    return log.slice(0, 1); // net.Socket says 'close' without `hadError` here
  },
  'a signal that is aborted while connected': async ({ connect, createServer }) => {
    const server = createServer((peer) => peer.resume().on('error', () => {}));
    const port = await listening(server);
    const controller = new AbortController();
    const client = connect({ port, host: '127.0.0.1', signal: controller.signal });
    const log = record(client);
    client.once('ready', () => controller.abort());
    await closing(client);
    server.close();
    await closing(server);
    return log;
  },
};

const STATES: Record<string, Scenario> = {
  'the properties of a client, stage by stage': async ({ connect, createServer }) => {
    const server = createServer((peer) => peer.end('hello'));
    const port = await listening(server);
    const client = connect({ port, host: '127.0.0.1' });
    const look = () => ({
      readyState: client.readyState,
      connecting: client.connecting,
      pending: client.pending,
      remote: [client.remoteAddress, client.remoteFamily, client.remotePort === port],
      local: [client.localAddress, client.localFamily, typeof client.localPort],
      address: Object.keys(client.address()),
      read: client.bytesRead,
      written: client.bytesWritten,
      destroyed: client.destroyed,
      timeout: client.timeout,
    });
    const stages = [look()];
    client.write('abc');
    stages.push(look());
    await once(client, 'ready');
    stages.push({ ...look(), read: 0 });
    client.resume();
    await closing(client);
    const { local: _, address: __, remote: ___, ...last } = look();
    server.close();
    return { stages, last };
  },
  'the properties of a server': async ({ createServer }) => {
    const server = createServer();
    const look = () => {
      const address = server.address() as net.AddressInfo | null;
      return { listening: server.listening, address: address && { ...address, port: address.port > 0 } };
    };
    const stages = [look()];
    server.listen(0);
    stages.push(look());
    await once(server, 'listening');
    stages.push(look());
    server.close();
    stages.push(look());
    await once(server, 'close');
    return stages;
  },
};

describe('like node:net', { skip: needsRoot }, () => {
  let kernel: KernelPart;
  before(() => {
    kernel = KernelPart.load();
  });
  after(() => kernel.unload());

  for (const [name, scenario] of Object.entries({ ...SCENARIOS, ...FAILURES, ...STATES })) {
    test(name, { timeout: 10_000 }, async () => {
      const expected = await scenario(NET);
      for (const implementation of OURS) {
        assert.deepEqual(await scenario(implementation), expected, implementation.name);
      }
    });
  }
});

function lookupTo(...addresses: string[]): net.LookupFunction {
  const all = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  return (_host, _options, callback) => process.nextTick(callback, null, all);
}
