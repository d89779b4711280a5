/** A Python program that is a client or a server of many small connections; what it finds it prints as JSON. */

/**
 * `serve PORT WHO [6]` answers, over IPv6 as well where that is wanted, each connection with the peer's address, as accept(2) and getpeername(2) name it;
 *                    WHO ("server" or "client") closes first
 * `call ADDRESS PORT WHO COUNT AT-ONCE`   prints the failures, at most ten of them, and the number of successes
 */
export const MANY = `
import json, socket, sys, threading
mode, arguments = sys.argv[1], sys.argv[2:]

def read_all(connection):
    data = b''
    while piece := connection.recv(65536): data += piece
    return data

def serve(port, who, six=''):
    family, any = (socket.AF_INET6, '::') if six else (socket.AF_INET, '')
    listener = socket.create_server((any, port), family=family, dualstack_ipv6=bool(six), backlog=4096)
    def answer(connection, address):
        with connection:
            connection.recv(100)
            connection.sendall(('%s %s %s %s\\n' % (address[:2] + connection.getpeername()[:2])).encode())
            if who == 'client': connection.recv(100)
    while True:
        connection, address = listener.accept()
        threading.Thread(target=answer, args=(connection, address), daemon=True).start()

def call(address, port, who, count, at_once):
    failures, done, lock = [], [0], threading.Lock()
    def one():
        with socket.create_connection((address, port), timeout=30) as connection:
            own = connection.getsockname()
            connection.sendall(b'hello\\n')
            if who == 'server': answer = read_all(connection)
            else: answer = connection.makefile('rb').readline()
            host, at_accept, host2, at_getpeername = answer.decode().replace('::ffff:', '').split()
            assert host == host2 == own[0], (host, host2, own)
            assert at_accept == at_getpeername, (at_accept, at_getpeername)
            assert connection.getpeername()[:2] == (address, port)
            return int(at_accept) == own[1]
    def work():
        for _ in range(count // at_once):
            try:
                same_port = one()
                with lock: done[0] += 1
            except Exception as error:
                with lock: failures.append(repr(error))
    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps({'done': done[0], 'failed': len(failures), 'failures': failures[:10]}))

if mode == 'serve': serve(int(arguments[0]), *arguments[1:])
else: call(arguments[0], int(arguments[1]), arguments[2], int(arguments[3]), int(arguments[4]))
`;

/**
 * Connections that are reset at random moments, by either side: `serve PORT` and `call ADDRESS PORT COUNT AT-ONCE`.
 * Nothing is expected of them but that they end.
 */
export const HAMMER = `
import random, socket, struct, sys, threading, time
mode, arguments = sys.argv[1], sys.argv[2:]

def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()

def misbehave(connection):
    connection.settimeout(1)
    try:
        for _ in range(random.randrange(4)):
            time.sleep(random.choice([0, 0, 0.001, 0.01]))
            what = random.randrange(5)
            if what == 0: connection.sendall(random.randbytes(random.choice([1, 1000, 300000])))
            elif what == 1: connection.recv(random.choice([1, 65536]))
            elif what == 2: connection.shutdown(socket.SHUT_WR)
            elif what == 3: return reset(connection)
            else: pass
    except OSError: pass
    if random.random() < .5: reset(connection)
    else: connection.close()

def serve(port):
    listener = socket.create_server(('', port), backlog=4096)
    while True:
        try: connection, _ = listener.accept()
        except OSError: continue
        threading.Thread(target=misbehave, args=(connection,), daemon=True).start()

def call(address, port, count, at_once):
    def work():
        for _ in range(count // at_once):
            connection = socket.socket()
            connection.settimeout(random.choice([0.0005, 0.002, 10, 10, 10]))
            try: connection.connect((address, port))
            except OSError: connection.close()
            else: misbehave(connection)
    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print('done')

if mode == 'serve': serve(int(arguments[0]))
else: call(arguments[0], int(arguments[1]), int(arguments[2]), int(arguments[3]))
`;
