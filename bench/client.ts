/**
 * The client program: `node client.js CONNECTOR HEAP`, with a heap of HEAP MB. A task per line on stdin, a result per line on
 * stdout.
 */
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { hold } from './heap.js';
import { header, Operation, send } from './protocol.js';
import { type Connector, connect } from './transports.js';
import type { Result, Task } from './work.js';

const connector = JSON.parse(process.argv[2] ?? '') as Connector;
const idle: Duplex[] = [];
hold(Number(process.argv[3]));

const open = (): Promise<Duplex> =>
  new Promise((resolve, reject) => {
    const stream = connect(connector, resolve);
    stream.once('error', reject);
  });

const bytes = (stream: Duplex, count: number): Promise<void> =>
  new Promise((resolve, reject) => {
    let left = count;
    const take = (data: Buffer): void => {
      left -= data.length;
      if (left > 0) return;
      stream.off('data', take);
      stream.off('close', gone);
      resolve();
    };
    const gone = (): void => reject(new Error(`closed with ${left} bytes missing`));
    stream.on('data', take);
    stream.on('close', gone);
  });

async function perform(task: Task): Promise<Result> {
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  switch (task.work) {
    case 'bulk': {
      const share = task.bytes / task.streams;
      const one = task.direction === 'up' ? upload : download;
      await Promise.all(Array.from({ length: task.streams }, () => one(share)));
      return { seconds: seconds() };
    }
    case 'ping-pong':
      return { samples: await pingPong(task.count), seconds: seconds() };
    case 'connections': {
      let left = task.count;
      const samples: number[] = [];
      const worker = async (): Promise<void> => {
        while (left-- > 0) samples.push(await shortConnection());
      };
      await Promise.all(Array.from({ length: task.concurrency }, worker));
      return { samples, seconds: seconds() };
    }
    case 'idle':
      while (idle.length < task.count) idle.push(...(await Promise.all(Array.from({ length: 50 }, idleOne))));
      global.gc?.();
      return { seconds: seconds() };
    case 'hang up':
      for (const stream of idle.splice(0)) stream.destroy();
      global.gc?.();
      return { seconds: seconds() };
  }
}

async function upload(length: number): Promise<void> {
  const stream = await open();
  const done = bytes(stream, 1);
  stream.write(header(Operation.Receive, length));
  send(stream, length);
  await done;
  stream.destroy();
}

async function download(length: number): Promise<void> {
  const stream = await open();
  const done = bytes(stream, length);
  stream.write(header(Operation.Send, length));
  await done;
  stream.destroy();
}

/** Microseconds of each round trip. */
async function pingPong(count: number): Promise<number[]> {
  const stream = await open();
  const ping = Buffer.alloc(64, Operation.Echo);
  const samples: number[] = [];
  await new Promise<void>((resolve, reject) => {
    let started = performance.now();
    let missing = ping.length;
    stream.on('close', () => reject(new Error('closed')));
    stream.on('data', (data: Buffer) => {
      missing -= data.length;
      if (missing > 0) return;
      const now = performance.now();
      samples.push((now - started) * 1000);
      if (samples.length === count) {
        resolve();
        return;
      }
      missing = ping.length;
      started = now;
      stream.write(ping);
    });
    stream.write(ping);
  });
  stream.destroy();
  return samples;
}

/**
 * Microseconds from connect() to the first byte back. Then both ends close in order, the client first, so that ports of
 * the server stay free.
 */
async function shortConnection(): Promise<number> {
  const started = performance.now();
  const stream = await open();
  stream.write(Buffer.of(Operation.Echo));
  await bytes(stream, 1);
  const duration = (performance.now() - started) * 1000;
  await new Promise((resolve) => {
    stream.once('close', resolve);
    stream.end();
  });
  return duration;
}

async function idleOne(): Promise<Duplex> {
  const stream = await open();
  stream.write(Buffer.of(Operation.Echo));
  await bytes(stream, 1);
  return stream;
}

createInterface({ input: process.stdin }).on('line', (line) => {
  perform(JSON.parse(line) as Task).then(
    (result) => process.stdout.write(`${JSON.stringify(result)}\n`),
    (error) => process.stdout.write(`${JSON.stringify({ seconds: 0, error: String(error) })}\n`),
  );
});
