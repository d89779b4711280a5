import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { forgetConnectionMessage, verdictMessage } from '#src/kernel/netlink.js';
import { ForgetConnection, Verdicts } from '#src/kernel/netlink-templates.js';
import { addressBytes, writeOwnForm } from '#src/kernel/sockaddr.js';

const u32 = fc.nat(0xffffffff);
const port = fc.nat(0xffff);

test('property: a verdict from a template is the message itself', () => {
  fc.assert(
    fc.property(
      port,
      fc.array(fc.tuple(u32, fc.nat(1), fc.option(u32, { nil: undefined })), { minLength: 1 }),
      (queue, all) => {
        const verdicts = new Verdicts(queue);
        for (const [id, verdict, mark] of all)
          assert.deepEqual(verdicts.on(id, verdict, mark), verdictMessage(queue, verdict, id, mark));
      },
    ),
  );
});

test('property: what connection tracking is to forget, from a template, is the message itself', () => {
  const segment = fc
    .tuple(fc.constantFrom('ipv4' as const, 'ipv6' as const), fc.ipV4(), fc.ipV4(), fc.ipV6(), port, port)
    .map(([family, a, b, c, sourcePort, destinationPort]) => ({
      family,
      source: family === 'ipv4' ? a : c,
      destination: family === 'ipv4' ? b : '2001:db8::1',
      sourcePort,
      destinationPort,
    }));
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1 }), (segments) => {
      const forget = new ForgetConnection();
      for (const one of segments) assert.deepEqual(forget.of(one), forgetConnectionMessage(one));
    }),
  );
});

test('property: an address is written as addressBytes() has it, in the form of its family', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(8), (host, at) => {
      const target = Buffer.alloc(24);
      writeOwnForm(host, target, at);
      const whole = addressBytes(host);
      const expected = Buffer.alloc(24);
      (host.includes(':') ? whole : whole.subarray(12)).copy(expected, at);
      assert.deepEqual(target, expected);
    }),
  );
});
