import assert from 'node:assert/strict';
import type { Host } from '#src/lab/host.js';
import { python } from './pair.js';

/**
 * What an unmodified program in Python reads of TCP_ENO_* on its own socket, as JSON: a value in hex, or the name of
 * the error. `serve ADDRESS PORT [OPTIONS]` answers every connection with what it read; `call ADDRESS PORT [OPTIONS
 * [LOCAL-PORT [LATE]]]` prints what it read and what the server answered. Both wait until the key exchange is over: ENOTCONN.
 * OPTIONS are set before, LATE after connecting: JSON, [[number, int or bytes in hex], …].
 */
export const OPTIONS = `
import errno, json, socket, sys, time
OPTIONS = {'SESSID': 1027, 'NEGTEP': 1028, 'PEER_GOPT': 1031, 'ROLE': 1034, 'SELF_NAME': 1035, 'PEER_NAME': 1036,
           'TRANSCRIPT': 1038, 'STATE': 1039, 'CONF': 1045}

def get(connection, option):
    try: return connection.getsockopt(socket.IPPROTO_TCP, option, 256).hex()
    except OSError as error: return errno.errorcode[error.errno]

def read(connection):
    seen = set()
    deadline = time.monotonic() + 10
    while (id := get(connection, OPTIONS['SESSID'])) == 'ENOTCONN' and time.monotonic() < deadline:
        seen.add(id)
        time.sleep(0.001)
    return {name: get(connection, number) for name, number in OPTIONS.items()}

def family(address): return socket.AF_INET6 if ':' in address else socket.AF_INET

def prepare(connection, options):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for number, value in json.loads(options):
        connection.setsockopt(socket.IPPROTO_TCP, number, bytes.fromhex(value) if isinstance(value, str) else value)

def serve(address, port, options='[]'):
    listener = socket.socket(family(address), socket.SOCK_STREAM)
    prepare(listener, options)
    if address == '::': listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen()
    print('listening', flush=True)
    while True:
        connection, _ = listener.accept()
        at_once = get(connection, OPTIONS['SESSID'])
        facts = read(connection) | {'at_once': at_once}
        try:
            while connection.recv(1000): pass
        except OSError: continue
        facts['after_end'] = get(connection, OPTIONS['SESSID'])
        connection.sendall(json.dumps(facts).encode())
        connection.close()

def call(address, port, options='[]', local_port='0', late='[]'):
    connection = socket.socket(family(address), socket.SOCK_STREAM)
    prepare(connection, options)
    if local_port := int(local_port): connection.bind(('::' if ':' in address else '', local_port))
    before = get(connection, OPTIONS['SESSID'])
    connection.settimeout(10)
    try: connection.connect((address, port))
    except OSError as error:
        print(json.dumps({'error': errno.errorcode[error.errno]}))
        return
    mine = read(connection) | {'before': before}
    answer = b''
    prepare(connection, late)
    try:
        connection.sendall(b'x')
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536): answer += piece
    except OSError as error:
        print(json.dumps({'error': errno.errorcode[error.errno], 'client': mine}))
        return
    time.sleep(0.1)
    mine['after_end'] = get(connection, OPTIONS['SESSID'])
    print(json.dumps({'client': mine, 'server': json.loads(answer), 'port': connection.getsockname()[1]}))

mode, address, port, *more = sys.argv[1:]
serve(address, int(port), *more) if mode == 'serve' else call(address, int(port), *more)
`;

/** [number, int or bytes in hex] */
export type Settings = readonly (readonly [number, number | string])[];

export async function serve(
  host: Host,
  address: string,
  port: number,
  options: Settings = [],
): Promise<void> {
  host.spawn(...python(OPTIONS, 'serve', address, `${port}`, JSON.stringify(options)), {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  await host.waitForListener(port);
}

export async function call(
  host: Host,
  address: string,
  port: number,
  options: Settings = [],
  localPort = 0,
  late: Settings = [],
): Promise<Exchange> {
  const { code, stdout, stderr } = await host.run(
    ...python(
      OPTIONS,
      'call',
      address,
      `${port}`,
      JSON.stringify(options),
      `${localPort}`,
      JSON.stringify(late),
    ),
    { timeoutMs: 30_000 },
  );
  assert.equal(code, 0, stderr);
  return JSON.parse(`${stdout}`) as Exchange;
}

/** An `int`, as it is printed. */
export const int = (value: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes.toString('hex');
};

/** What one end read. */
export interface Seen extends Readonly<Record<string, string>> {
  readonly SESSID: string;
}

export interface Exchange {
  readonly client: Seen;
  readonly server: Seen;
  /** The client's. */
  readonly port: number;
  /** Why there was no connection, or why it broke; then the rest is missing. */
  readonly error?: string;
}
