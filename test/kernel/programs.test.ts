/** The socket options as programs in other languages use them, without any privilege. */
import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { lab, shell } from './lab.js';

const place = lab();
const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups';

test('Python, unprivileged: offer, listen, and read transcript, role and session ID with plain getsockopt', () => {
  process.env.PYTHON = `
import os, socket
NEGTEP, SESSID, ROLE, SELF_NAME, PEER_NAME, RAW, TRANSCRIPT = 1028, 1027, 1034, 1035, 1036, 1037, 1038
def eno(contents):
    s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, RAW, contents); return s
listener = eno(b'\\x23'); listener.bind(('127.0.0.1', 0)); listener.listen()
client = eno(b'\\x23'); client.connect(listener.getsockname())
server, _ = listener.accept()
get = lambda s, name: s.getsockopt(socket.IPPROTO_TCP, name, 96)
assert get(client, TRANSCRIPT) == get(server, TRANSCRIPT) == bytes.fromhex('45032345040123')
for s in (client, server): s.setsockopt(socket.IPPROTO_TCP, SESSID, b'\\x23' + b'i' * 32)
assert get(client, SESSID) == get(server, SESSID)
assert get(client, SELF_NAME) == get(server, PEER_NAME) == b'\\0\\x23' + b'i' * 32
print(os.getuid(), client.getsockopt(socket.IPPROTO_TCP, ROLE), server.getsockopt(socket.IPPROTO_TCP, ROLE))`;
  assert.equal(shell(`${nobody} /usr/bin/python3 -c "$PYTHON"`).trim(), '65534 0 1');
});

test('C and C++: include/tcp_eno.h stands alone, and its structures are as the library reads them', () => {
  const source = join(place.directory, 'program.c');
  writeFileSync(
    source,
    `#include "tcp_eno.h"
     #include <netinet/in.h>
     #include <stddef.h>
     #include <stdio.h>
     #include <sys/socket.h>
     int main(void) {
       struct tcp_eno_state state;
       socklen_t length = sizeof state;
       int fd = socket(AF_INET, SOCK_STREAM, 0), tries = 7;
       if (setsockopt(fd, IPPROTO_TCP, TCP_ENO_SYN_TRIES, &tries, sizeof tries)) return 1;
       if (getsockopt(fd, IPPROTO_TCP, TCP_ENO_STATE, &state, &length)) return 2;
       printf("%d %zu %d %d", (int)length, offsetof(struct tcp_eno_state, transcript), state.phase, state.syn_tries);
       length = 6; /* an older program's shorter struct */
       if (getsockopt(fd, IPPROTO_TCP, TCP_ENO_STATE, &state, &length)) return 3;
       printf(" %d\\n", (int)length);
       return 0;
     }`,
  );
  chmodSync(place.directory, 0o755); // for the unprivileged user
  const include = resolve('include');
  for (const compiler of ['cc -std=c99 -x c', 'c++ -x c++'])
    assert.equal(
      shell(
        `${compiler} -Wall -Wextra -Werror -I '${include}' '${source}' -o '${source}.out' && ${nobody} '${source}.out'`,
      ).trim(),
      '96 16 0 7 6',
    );
});
