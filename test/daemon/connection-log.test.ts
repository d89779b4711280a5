import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ConnectionLog } from '#src/daemon/connection-log.js';
import type { Channel } from '#src/socket/channel.js';

const secure = { encrypted: true, resumed: false, dataReceived: 3, dataSent: 5 } as Channel;
const plain = { encrypted: false, plainReason: 'ERR_TCPCRYPT_ENO_ABSENT', dataReceived: 0 } as Channel;

const end = (address: string, port: number) => ({ address, port });

function logAt(level: string): { log: ConnectionLog; events: () => string[] } {
  const lines: string[] = [];
  const logger = pino({ level }, { write: (line: string) => void lines.push(line) });
  const events = () =>
    lines.splice(0).map((line) => {
      const { event, code, plainReason, bytesReceived } = JSON.parse(line);
      return [event, code ?? plainReason, bytesReceived].join(' ').trim();
    });
  return { log: new ConnectionLog(logger), events };
}

function history(log: ConnectionLog): void {
  const good = log.open('inbound', end('10.0.0.1', 80), end('10.0.0.2', 1234));
  good.ready(secure);
  good.end(secure, { how: 'end' });
  log.open('outbound', end('10.0.0.1', 80), end('10.0.0.2', 1234)).ready(plain);
  const failing = log.open('inbound', end('10.0.0.1', 80), end('10.0.0.2', 1235));
  failing.ready(secure);
  const error = Object.assign(new Error('truncated'), { code: 'ERR_TCPCRYPT_STREAM_TRUNCATED' });
  failing.end(secure, { how: 'error', error });
  log.refused('inbound', end('10.0.0.1', 80), end('10.0.0.2', 1236), 'ERR_TCPCRYPT_ENO_ABSENT');
}

test('as usual, lines tell of connections that stay plain, fail, or are refused', () => {
  const { log, events } = logAt('info');
  history(log);
  assert.deepEqual(events(), [
    'plain ERR_TCPCRYPT_ENO_ABSENT',
    'end ERR_TCPCRYPT_STREAM_TRUNCATED 3',
    'refused ERR_TCPCRYPT_ENO_ABSENT',
  ]);
});

test('at level debug, of every connection', () => {
  const { log, events } = logAt('debug');
  history(log);
  assert.deepEqual(events(), [
    'secure',
    'end  3',
    'plain ERR_TCPCRYPT_ENO_ABSENT',
    'secure',
    'end ERR_TCPCRYPT_STREAM_TRUNCATED 3',
    'refused ERR_TCPCRYPT_ENO_ABSENT',
  ]);
});

test('all are counted, whatever is logged', () => {
  const { log } = logAt('error');
  history(log);
  assert.deepEqual(log.counters, {
    inboundEncrypted: 2,
    outboundPlain: 1,
    failed: 1,
    inboundPrivateRefused: 1,
  });
  assert.deepEqual(log.traffic('inbound'), { received: 6, sent: 10 });
});
