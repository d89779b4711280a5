/**
 * What an unmodified program in Python reads of TCP_ENO_* on its own socket, as JSON: a value in hex, or the name of
 * the error. `serve ADDRESS PORT` answers every connection with what it read; `call ADDRESS PORT` prints what it read and
 * what the server answered. Both wait until the key exchange is over: ENOTCONN.
 */
export const OPTIONS = `
import errno, json, socket, sys, time
OPTIONS = {'SESSID': 1027, 'NEGTEP': 1028, 'PEER_GOPT': 1031, 'ROLE': 1034, 'SELF_NAME': 1035, 'PEER_NAME': 1036,
           'TRANSCRIPT': 1038, 'STATE': 1039}

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

def serve(address, port):
    listener = socket.create_server((address, port), family=family(address), dualstack_ipv6=address == '::')
    print('listening', flush=True)
    while True:
        connection, _ = listener.accept()
        at_once = get(connection, OPTIONS['SESSID'])
        facts = read(connection) | {'at_once': at_once}
        while connection.recv(1000): pass
        facts['after_end'] = get(connection, OPTIONS['SESSID'])
        connection.sendall(json.dumps(facts).encode())
        connection.close()

def call(address, port, local_port=0):
    connection = socket.socket(family(address), socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if local_port: connection.bind(('::' if ':' in address else '', local_port))
    before = get(connection, OPTIONS['SESSID'])
    connection.settimeout(10)
    connection.connect((address, port))
    mine = read(connection) | {'before': before}
    connection.sendall(b'x')
    connection.shutdown(socket.SHUT_WR)
    answer = b''
    while piece := connection.recv(65536): answer += piece
    time.sleep(0.1)
    mine['after_end'] = get(connection, OPTIONS['SESSID'])
    print(json.dumps({'client': mine, 'server': json.loads(answer), 'port': connection.getsockname()[1]}))

mode, address, port, *more = sys.argv[1:]
serve(address, int(port)) if mode == 'serve' else call(address, int(port), *map(int, more))
`;

/** What one end read. */
export interface Seen extends Readonly<Record<string, string>> {
  readonly SESSID: string;
}

export interface Exchange {
  readonly client: Seen;
  readonly server: Seen;
  /** The client's. */
  readonly port: number;
}
