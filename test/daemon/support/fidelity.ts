/**
 * What a program sees of TCP, as text that can be compared: natively, and through the daemon. Run as
 * `serve PORT CASE`, which prints what the server saw of one connection, and `call ADDRESS PORT CASE`.
 */
export const FIDELITY = `
import errno, hashlib, socket, struct, sys, time
mode, *arguments = sys.argv[1:]
DATA = bytes(range(256)) * 4096  # 1 MiB

def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()

def read_all(connection):
    data = b''
    try:
        while piece := connection.recv(65536): data += piece
        return '%d bytes %s, end' % (len(data), hashlib.sha256(data).hexdigest()[:8])
    except OSError as error:
        return '%d bytes, %s' % (len(data), errno.errorcode.get(error.errno, error))

def write_until_error(connection):
    try:
        for _ in range(200):
            connection.sendall(b'x' * 1000)
            time.sleep(0.02)
        return 'no error'
    except OSError as error:
        return 'reset' if error.errno in (errno.ECONNRESET, errno.EPIPE) else errno.errorcode[error.errno]

def tiny(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in DATA[:2000]: connection.send(bytes([byte]))

# case: (client, server); what they return is what they saw
CASES = {
    'client-resets-before-data': (lambda c: (pause(), reset(c))[2:], lambda s: read_all(s)),
    'client-resets-after-data': (
        lambda c: (c.sendall(b'hello'), pause(), reset(c))[3:],
        lambda s: read_all(s)),
    'server-resets-at-once': (lambda c: read_all(c), lambda s: reset(s)),
    'server-resets-after-data': (
        lambda c: read_all(c),
        lambda s: (s.sendall(b'hello'), pause(), reset(s))[3:]),
    'server-resets-a-writer': (lambda c: write_until_error(c), lambda s: (s.recv(1), reset(s))[2:]),
    'client-resets-a-writer': (lambda c: (c.recv(1), reset(c))[2:], lambda s: write_until_error(s)),
    'server-leaves-data-unread': (
        lambda c: (c.sendall(b'question'), read_all(c))[1], lambda s: (pause(), s.close())[2:]),
    'large-writes': (
        lambda c: (c.sendall(DATA * 8), c.shutdown(socket.SHUT_WR), read_all(c))[2],
        lambda s: (read_all(s), s.sendall(DATA * 8), s.close())[0]),
    'tiny-writes': (
        lambda c: (tiny(c), c.shutdown(socket.SHUT_WR), read_all(c))[2],
        lambda s: (read_all(s), tiny(s), s.close())[0]),
    'half-close-at-once': (
        lambda c: (c.shutdown(socket.SHUT_WR), read_all(c))[1],
        lambda s: (read_all(s), s.sendall(b'late'), s.close())[0]),
    'server-ends-at-once': (
        lambda c: (read_all(c), c.sendall(b'late'), c.close())[0],
        lambda s: (s.shutdown(socket.SHUT_WR), read_all(s))[1]),
}

def pause(): time.sleep(0.2)

def serve(port, case):
    connection, _ = socket.create_server(('', port)).accept()
    connection.settimeout(20)
    return CASES[case][1](connection)

def call(address, port, case):
    try: connection = socket.create_connection((address, port), timeout=20)
    # A reset may reach the client before connect(2) returns; then that call reports it.
    except ConnectionResetError: return '0 bytes, ECONNRESET' if case.startswith('server-resets') else 'ECONNRESET'
    except OSError as error: return errno.errorcode.get(error.errno, repr(error))
    assert connection.getpeername() == (address, port), connection.getpeername()
    if case == 'name': return connection.getsockname()[0]
    return CASES[case][0](connection)

saw = serve(int(arguments[0]), arguments[1]) if mode == 'serve' else call(arguments[0], int(arguments[1]), arguments[2])
print(saw or 'nothing', end='')
`;

/** The names in CASES. */
export const FIDELITY_CASES = [
  'client-resets-before-data',
  'client-resets-after-data',
  'server-resets-at-once',
  'server-resets-after-data',
  'server-resets-a-writer',
  'client-resets-a-writer',
  'server-leaves-data-unread',
  'large-writes',
  'tiny-writes',
  'half-close-at-once',
  'server-ends-at-once',
] as const;

/** Sends as much as the other end takes; that end reads nothing for a while: `serve PORT SECONDS`, `call ADDRESS PORT BYTES`. */
export const STALL = `
import hashlib, socket, sys, time
mode, *arguments = sys.argv[1:]
BLOCK = bytes(range(256)) * 4096
if mode == 'serve':
    connection, _ = socket.create_server(('', int(arguments[0]))).accept()
    time.sleep(float(arguments[1]))
    digest, count = hashlib.sha256(), 0
    while data := connection.recv(1 << 20):
        digest.update(data)
        count += len(data)
    print(count, digest.hexdigest(), end='')
else:
    connection = socket.create_connection((arguments[0], int(arguments[1])))
    digest, count = hashlib.sha256(), 0
    while count < int(arguments[2]):
        connection.sendall(BLOCK)
        digest.update(BLOCK)
        count += len(BLOCK)
    connection.close()
    print(count, digest.hexdigest(), end='')
`;
