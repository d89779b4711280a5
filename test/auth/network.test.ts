/**
 * Every mechanism on real tcpcrypt connections, and a man in the middle who terminates tcpcrypt on both sides.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  type AuthenticateOptions,
  authenticate,
  exporter,
  type Mechanism,
  type Peer,
  sharedKey,
} from '#src/auth/index.js';
import type { Server, Socket } from '#src/index.js';
import { type Change, corrected, manInTheMiddle } from './support/man-in-the-middle.js';
import { connected, type KernelPart, kernelPart, listening } from './support/network.js';
import { type Outcome, outcomeOf } from './support/outcome.js';
import { makeMaterial, SETTING_NAMES, type Setting, settingOf } from './support/settings.js';

const SECRET = 'the secret of the application';
const directory = mkdtempSync(join(tmpdir(), 'tcpcrypt-auth-'));
const key = Buffer.from('a strong secret of many bytes');
const material = await makeMaterial();

interface Service {
  readonly port: number;
  readonly server: Server;
  readonly outcomes: Promise<Outcome>[];
  /** Application data that the service received. */
  readonly received: Buffer[];
}

/** Authenticates, then answers. Without a mechanism it answers anybody. */
async function service(mechanism?: Mechanism, options: Partial<AuthenticateOptions> = {}): Promise<Service> {
  const outcomes: Promise<Outcome>[] = [];
  const received: Buffer[] = [];
  const { server, port } = await listening((socket) => {
    const serve = (): void => {
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        received.push(chunk);
        socket.write(`answer to ${chunk}`);
      });
      socket.on('end', () => socket.end());
    };
    if (mechanism === undefined) {
      serve();
      return;
    }
    const result = authenticate(socket, { offer: [mechanism], agreed: 'by-protocol', ...options });
    outcomes.push(outcomeOf(result));
    result.then(serve, () => {});
  });
  return { server, port, outcomes, received };
}

const authenticated = (socket: Socket, mechanism: Mechanism, timeout = 8000): Promise<Peer | undefined> =>
  authenticate(socket, { offer: [mechanism], agreed: 'by-protocol', timeout });

async function ask(socket: Socket): Promise<string> {
  socket.write(SECRET);
  const [answer] = await once(socket, 'data');
  socket.end();
  socket.resume();
  await once(socket, 'close');
  return String(answer);
}

let kernel: KernelPart | undefined;
before(() => {
  kernel = kernelPart('auth');
});
after(async () => {
  await kernel?.undo();
  rmSync(directory, { recursive: true });
});

for (const name of SETTING_NAMES) {
  const setting = (): Setting => settingOf(name, material, join(directory, 'known'));
  describe(name, () => {
    test('both know the other, and data flows', async (context) => {
      const { client, server, names } = setting();
      const { port, server: listener, outcomes } = await service(server);
      context.after(() => listener.close());
      // Twice, as a resumed session has to authenticate anew, and hosts are known the second time.
      const ids: string[] = [];
      for (let round = 0; round < 2; round++) {
        const socket = await connected(port);
        ids.push(socket.sessionId.toString('hex'));
        const peer = await authenticated(socket, client);
        const ofServer = await outcomes[round];
        assert.deepEqual([peer?.name, (ofServer as Peer).name], names);
        assert.equal(await ask(socket), `answer to ${SECRET}`);
      }
      assert.notEqual(ids[0], ids[1]);
    });

    /** What both ends think when a man in the middle is there. */
    async function attacked(
      change: Change | undefined,
      context: { after(fn: () => unknown): void },
    ): Promise<readonly [Outcome, Outcome]> {
      const { client, server } = setting();
      const there = await service(server, { timeout: 8000 });
      const middle = await manInTheMiddle(there.port, change);
      context.after(() => there.server.close());
      context.after(() => middle.server.close());
      const ofClient = await outcomeOf(authenticated(await connected(middle.port), client, 8000));
      const ofServer = await there.outcomes[0];
      assert.deepEqual(there.received, [], 'no application data was delivered');
      assert.ok(!Buffer.concat(middle.heard.fromClient).includes(SECRET), 'he did not hear the secret');
      assert.equal(middle.sessionIds.length, 2);
      return [ofClient, ofServer];
    }

    test('a man in the middle who forwards everything is seen by both', async (context) => {
      assert.deepEqual(await attacked(undefined, context), [
        'ERR_TCPCRYPT_AUTH_SESSION',
        'ERR_TCPCRYPT_AUTH_SESSION',
      ]);
    });

    // He does not forward a refusal, if he is clever. Then the other end notices by the proof that never comes.
    const other =
      /^ERR_TCPCRYPT_AUTH_(DOWNGRADED|PROOF|BATCH|REFUSED|TRUNCATED)$|^ECONNRESET$|^ERR_TCPCRYPT_STREAM_TRUNCATED$/;

    test('so is one who corrects the session IDs in the HELLOs', async (context) => {
      const outcomes = await attacked(corrected(false), context);
      for (const outcome of outcomes) assert.match(String(outcome), other);
      assert.ok(outcomes.includes('ERR_TCPCRYPT_AUTH_DOWNGRADED'), String(outcomes));
    });

    test('and one who corrects the AGREE messages as well', async (context) => {
      const outcomes = await attacked(corrected(true), context);
      for (const outcome of outcomes) assert.match(String(outcome), other);
      assert.ok(
        outcomes.some((outcome) => /AUTH_(PROOF|BATCH)$/.test(String(outcome))),
        String(outcomes),
      );
    });
  });
}

test('without authentication he reads everything, and the session IDs differ', async (context) => {
  const there = await service();
  const middle = await manInTheMiddle(there.port);
  context.after(() => there.server.close());
  context.after(() => middle.server.close());
  const socket = await connected(middle.port);
  assert.equal(await ask(socket), `answer to ${SECRET}`);
  assert.equal(Buffer.concat(middle.heard.fromClient).toString(), SECRET);
  assert.equal(Buffer.concat(middle.heard.fromServer).toString(), `answer to ${SECRET}`);
  const [one, two] = middle.sessionIds;
  assert.ok(one !== undefined && two !== undefined);
  assert.notDeepEqual(one, two);
  assert.notDeepEqual(exporter(one, 'EXPORTER-test'), exporter(two, 'EXPORTER-test'));
});

test('a client that is not authenticated gets nothing, and the server hears nothing of it', async (context) => {
  const there = await service(sharedKey({ keys: () => undefined }));
  context.after(() => there.server.close());
  const socket = await connected(there.port);
  const codes = [await outcomeOf(authenticated(socket, sharedKey({ key }))), await there.outcomes[0]];
  assert.ok(codes.includes('ERR_TCPCRYPT_AUTH_PROOF'), String(codes));
  assert.deepEqual(there.received, []);
  assert.ok(socket.destroyed);
});
