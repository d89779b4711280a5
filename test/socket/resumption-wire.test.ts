/** What resumption looks like on the wire between two hosts: data ride in the first flight. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { loadKernelPart } from '#src/demo/kernel-part.js';
import { Capture } from '#src/lab/capture.js';
import type { Host } from '#src/lab/host.js';
import { Lab } from '#src/lab/lab.js';
import { type CapturedSegment, findOption } from '#src/lab/pcap.js';
import { INDEX, needsRoot } from './kernel-part.js';

const PORT = 7100;
const ENO = 69;
const FRAME_OVERHEAD = 3 + 1 + 16;

const SERVER = `
import { createServer } from ${JSON.stringify(INDEX)};
createServer({ mode: 'required', noDelay: true }, (socket) => {
  socket.on('error', () => {});
  socket.pipe(socket);
}).listen(${PORT}, () => console.log('listening'));
`;

/** Connects COUNT times, one after the other; prints what became of each. */
const CLIENT = `
import { connect } from ${JSON.stringify(INDEX)};
const [host, count] = process.argv.slice(1);
for (let i = 0; i < Number(count); i++) {
  const socket = connect({ host, port: ${PORT}, mode: 'required' });
  socket.end('ping');
  let port;
  socket.once('connect', () => { port = socket.localPort; });
  let data = '';
  for await (const chunk of socket) data += chunk;
  console.log(JSON.stringify({ data, resumed: socket.resumed, port, id: socket.sessionId.toString('hex') }));
}
`;

interface Result {
  readonly data: string;
  readonly resumed: boolean;
  readonly port: number;
  readonly id: string;
}

describe('resumption on the wire', { skip: needsRoot }, () => {
  let lab: Lab;
  let alice: Host;
  let bob: Host;
  const undo: (() => Promise<void>)[] = [];
  before(async () => {
    lab = await Lab.create({ name: 'resume' });
    alice = lab.host('alice');
    bob = lab.host('bob');
    for (const host of [alice, bob]) undo.push(loadKernelPart(host).undo);
    const server = bob.spawn(process.execPath, ['--input-type=module', '-e', SERVER], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(server.stdout !== null);
    await once(createInterface(server.stdout), 'line');
  });
  after(async () => {
    for (const step of undo) await step();
    await lab?.destroy();
  });

  async function run(host: string, count: number): Promise<{ results: Result[]; wire: CapturedSegment[] }> {
    const capture = await Capture.start(lab, alice);
    const { stdout, stderr } = await alice.run(process.execPath, [
      ...['--input-type=module', '-e', CLIENT],
      ...[host, `${count}`],
    ]);
    const results = String(stdout)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Result);
    assert.equal(results.length, count, String(stderr));
    return { results, wire: await capture.stop() };
  }

  for (const family of ['address4', 'address6'] as const)
    test(`TC-22: application data ride right behind the handshake, in both directions (IPv${family.at(-1)})`, async () => {
      const { results, wire } = await run(bob[family], 3);
      assert.deepEqual(
        results.map(({ data, resumed }) => [data, resumed]),
        [
          ['ping', false],
          ['ping', true],
          ['ping', true],
        ],
      );
      for (const { resumed, port } of results) {
        const segments = wire.filter(({ sourcePort, destinationPort }) =>
          [sourcePort, destinationPort].includes(port),
        );
        const [syn, synAck, ack] = segments;
        const from = ({ sourcePort }: CapturedSegment) => (sourcePort === port ? 'client' : 'server');
        const firstData = segments.findIndex(({ payload }) => payload.length > 0);
        const data = segments[firstData];
        assert.ok(syn && synAck && ack && data);
        assert.deepEqual([syn, synAck, ack, data].map(from), ['client', 'server', 'client', 'client']);
        assert.deepEqual([syn.flags, synAck.flags, ack.flags], ['S', 'S.', '.']);
        assert.equal(
          segments.slice(2, firstData).filter((s) => from(s) === 'server').length,
          0,
          'no more round trips',
        );
        const eno = findOption(syn.options, ENO);
        assert.ok(eno !== undefined);
        const payload = Buffer.from(data.payload);
        if (!resumed) {
          assert.deepEqual(Buffer.from(eno).toString('hex'), '212423');
          assert.equal(payload.readUInt32BE(), 0x15101a0e, 'Init1');
          continue;
        }
        assert.equal(eno.length, 18);
        assert.equal(eno[0], 0xa3);
        assert.equal(findOption(synAck.options, ENO)?.length, 18);
        assert.equal(findOption(ack.options, ENO)?.length, 0);
        // control 00, clen, ciphertext: the request itself, in the first segment with data.
        assert.equal(payload.readUInt8(), 0);
        assert.equal(payload.length, FRAME_OVERHEAD + 'ping'.length);
        assert.equal(payload.readUInt16BE(1), payload.length - 3);
        const answer = segments.find((s) => from(s) === 'server' && s.payload.length > 0);
        assert.equal(answer?.payload[0], 0);
        const all = Buffer.concat(segments.map(({ payload }) => payload));
        assert.equal(all.indexOf('ping'), -1);
        assert.equal(all.indexOf(Buffer.from('15101a0e', 'hex')), -1);
      }
    });
});
