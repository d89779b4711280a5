"""The application under soak: `server FAMILY PORT COUNT` listens on COUNT ports, `client FROM TO PORT COUNT FIRST LAST SEED
[SECONDS]` makes connections number FIRST to LAST, several at a time; with SECONDS, all at once and for that long. FROM and
TO: addresses with commas, of which each connection uses one, at random. `block`: the bytes that all data are cut out of.

Each end prints a line of JSON for each connection: {id, plan, how, sent, got, altered}. "how" is "end" (both directions
ended in order), "reset", "refused", another errno, or what the end did itself: "i reset", "i closed".

Plans: "up-down": the client sends, ends its direction, and reads. "down-up": the server does. "duplex": both at once.
"reset", "close": the client stops in the middle, unfriendly or just early. "echo": long, with pauses.
"""
import errno, json, os, random, socket, struct, sys, threading, time

PLANS = ['up-down', 'down-up', 'duplex', 'reset', 'close', 'echo']
MARKER = b'soak, in the open' # plaintext-watch.ts looks for it on the wire
HEADER = struct.Struct('!%dsIQQB' % len(MARKER))
IP_BIND_ADDRESS_NO_PORT = 24
random.seed(8548)
BLOCK = random.randbytes(65521) # a prime, so that a piece in the wrong place does not look right
PATIENCE = 60
REFUSALS = 150
AT_ONCE = 8

def pattern(key, offset, length):
    start, out = (key * 7919 + offset) % len(BLOCK), bytearray()
    while len(out) < length:
        out += BLOCK[start:start + length - len(out)]
        start = 0
    return bytes(out)

def report(**record):
    os.write(1, (json.dumps(record) + '\n').encode())

def errno_name(error):
    if isinstance(error, TimeoutError): return 'timeout'
    if error.errno in (errno.ECONNRESET, errno.EPIPE): return 'reset'
    return 'refused' if error.errno == errno.ECONNREFUSED else errno.errorcode.get(error.errno, str(error))

class Stream:
    """One connection and what has passed through it. `mine` and `theirs`: keys of the patterns."""
    def __init__(self, connection, mine, theirs):
        self.connection, self.mine, self.theirs = connection, mine, theirs
        self.sent = self.got = 0
        self.altered = False
    def send(self, length):
        until = self.sent + length
        while self.sent < until:
            self.sent += self.connection.send(pattern(self.mine, self.sent, min(until - self.sent, 65536)))
    def receive(self, most=1 << 40):
        """@returns how many bytes came, 0 at the end"""
        data = self.connection.recv(min(most, 65536))
        if data != pattern(self.theirs, self.got, len(data)): self.altered = True
        self.got += len(data)
        return len(data)
    def receive_all(self):
        while self.receive(): pass
    def end(self): self.connection.shutdown(socket.SHUT_WR)
    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.connection.close()
    def duplex(self, length):
        failure = []
        def send():
            try: self.send(length); self.end()
            except OSError as error: failure.append(error)
        sender = threading.Thread(target=send)
        sender.start()
        try: self.receive_all()
        finally: sender.join()
        if failure: raise failure[0]

def exactly(connection, length):
    data = b''
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece: return None
        data += piece
    return data

# ---- server

def serve_one(connection):
    connection.settimeout(PATIENCE)
    number, plan, stream, how = None, None, None, 'end'
    try:
        header = exactly(connection, HEADER.size)
        if header is None: return
        _, number, up, down, plan = HEADER.unpack(header)
        stream, plan = Stream(connection, number + 1, number), PLANS[plan]
        if plan == 'down-up': stream.send(down); stream.end(); stream.receive_all()
        elif plan == 'duplex': stream.duplex(down)
        elif plan == 'echo':
            while length := stream.receive(): stream.send(length)
            stream.end()
        else: stream.receive_all(); stream.send(down); stream.end()
    except OSError as error: how = errno_name(error)
    finally:
        connection.close()
        if stream:
            report(id=number, plan=plan, how=how, sent=stream.sent, got=stream.got, altered=stream.altered)

def serve(family, first, count):
    listeners = []
    for port in range(first, first + count):
        listener = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(('', port))
        listener.listen(1024)
        listeners.append(listener)
    def accept(listener):
        while True:
            try: connection, _ = listener.accept()
            except OSError: continue
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()
    for listener in listeners[1:]: threading.Thread(target=accept, args=(listener,), daemon=True).start()
    accept(listeners[0])

# ---- client

def connected(source, address, port):
    """As a patient program: while no daemon runs, what is private is refused."""
    for _ in range(REFUSALS):
        try: return connected_at_once(source, address, port)
        except ConnectionRefusedError: time.sleep(0.1)
    return connected_at_once(source, address, port)

def connected_at_once(source, address, port):
    connection = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((source, 0))
    connection.connect((address, port))
    return connection

def call_one(number, source, address, port, rng, seconds):
    size = lambda: rng.choice([0, 1, 100, 1000, 20000, rng.randrange(300000)])
    up, down = size(), size()
    plan = 'echo' if seconds else rng.choices(PLANS[:5], [5, 3, 3, 2, 1])[0]
    stream, how = None, 'end'
    try:
        connection = connected(source, address, port)
        stream = Stream(connection, number, number + 1)
        connection.sendall(HEADER.pack(MARKER, number, up, down, PLANS.index(plan)))
        if plan == 'up-down': stream.send(up); stream.end(); stream.receive_all()
        elif plan == 'down-up': stream.receive_all(); stream.send(up); stream.end()
        elif plan == 'duplex': stream.duplex(up)
        elif plan == 'echo': up = down = echo(stream, rng, seconds)
        else:
            stream.send(rng.randrange(up + 1))
            if plan == 'reset': stream.reset()
            how = 'i reset' if plan == 'reset' else 'i closed'
        connection.close()
    except OSError as error: how = errno_name(error) if stream else 'not connected: ' + errno_name(error)
    report(id=number, plan=plan, how=how, up=up, down=down, sent=stream.sent if stream else 0,
           got=stream.got if stream else 0, altered=bool(stream and stream.altered))

def echo(stream, rng, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        length = rng.choice([1, 100, 4000, 60000])
        stream.send(length)
        while stream.got < stream.sent:
            if not stream.receive(): return stream.sent
        time.sleep(rng.random() * 2)
    stream.end()
    stream.receive_all()
    return stream.sent

def call(sources, addresses, first_port, ports, first, last, seed, seconds):
    lock, numbers = threading.Lock(), iter(range(first, last + 1))
    def work():
        while True:
            with lock: number = next(numbers, None)
            if number is None: return
            rng = random.Random('%d %d' % (seed, number))
            call_one(number, rng.choice(sources), rng.choice(addresses), first_port + rng.randrange(ports), rng, seconds)
    threads = [threading.Thread(target=work) for _ in range(last - first + 1 if seconds else AT_ONCE)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

mode, *arguments = sys.argv[1:]
if mode == 'server': serve(*map(int, arguments))
elif mode == 'block': sys.stdout.buffer.write(BLOCK)
else:
    sources, addresses, *numbers = arguments
    call(sources.split(','), addresses.split(','), *map(int, numbers[:5]), float(numbers[5]) if len(numbers) > 5 else 0)
