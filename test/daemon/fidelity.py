"""What a program can observe of TCP, as text that can be compared: natively, and through the daemon.

    fidelity.py client|server CONFIGURATION      (JSON, see below)
    fidelity.py list

runs all probes of PROBES at once, each on a port of its own, and prints {probe: [observation, ...]}. A probe is two
scripts: steps, separated by semicolons, that the client's and the server's end take. What a step observes is noted as
"step: what". The step "meet" notes nothing: each end waits there for the other, over a Unix socket.

Configuration: family ("4", "6", "mapped": IPv6 sockets, IPv4 packets), port (of the first probe), directory (of the
Unix sockets), hosts (names of addresses: "client", "client2", "server", "server2", and some that nobody has).
"""
import errno, fcntl, hashlib, json, os, select, socket, struct, sys, termios, threading, time

side, configuration = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
family, hosts = configuration.get('family'), configuration.get('hosts')
PATIENCE = 20
PATTERN = bytes(range(251)) * 1700
MIB = 1 << 20

CONNECT, ACCEPT = 'connect', 'accept'
PROBES = {
    # ---- opening
    'connects': ('connect; names; send 5; read', 'accept; names; read 5; send 5; close'),
    'server speaks first': ('connect; read 5; send 5; read', 'accept; send 5; read 5; close'),
    'non-blocking connect': (
        'non-blocking; connect; wait; so_error; connect; blocking; send 5; read', 'accept; read 5; send 7; close'),
    'refused': ('connect; so_error; connect', None),
    'refused, non-blocking': ('non-blocking; connect; wait; so_error; so_error; read', None),
    # (On virtual wires an ICMP message arrives within the system call, and is noted twice: so no more is asked.)
    'host unreachable': ('connect host-unreachable', None),
    'host unreachable, non-blocking': ('non-blocking; connect host-unreachable; failed; so_error', None),
    'prohibited by the router': ('connect prohibited', None),
    'reset by a firewall': ('connect firewalled', None),
    'no route': ('connect no-route', None),
    'connect times out': ('option SYNCNT 1; connect silent; so_error', None),
    'connect times out, non-blocking': ('option SYNCNT 1; non-blocking; connect silent; wait; so_error', None),
    'the program has no patience': ('send-timeout; connect silent; close', None),
    'user timeout': ('option USER_TIMEOUT 1200; connect silent; so_error', None),
    'bound source address': ('bind client2; connect; names; send 5; read', 'accept; names; read 5; send 5; close'),
    'privileged source port': ('bind-privileged; connect; names; send 5; read', 'accept; names; read 5; close'),
    'server on its second address': ('connect server2; names; send 5; read', 'accept; names; read 5; close'),
    'one port, two destinations': ('fan', 'accept; read 5; send 6; close; accept; read 5; send 6; close'),
    'own address': ('self', None),
    'fast open by sendto': ('sendto-fast-open; names; read', 'accept; names; read 5; send 6; close'),
    'fast open by connect': (
        'option FASTOPEN_CONNECT 1; connect; send 5; read', 'accept; read 5; send 6; close'),
    'bound to an interface': ('bind-to-interface; connect; send 5; read', 'accept; read 5; send 6; close'),
    'accepts late': ('connect; send 5; shut-write; read', 'pause; accept; read; send 9; close'),
    'accepts data only': ('connect; send 5; read', 'accept; read 5; send 6; close'),
    # ---- ending in order
    'client half-closes': ('connect; send 5; shut-write; read; close', 'accept; read; send 9; close'),
    'client half-closes at once': ('connect; shut-write; read', 'accept; read; send 9; close'),
    'server half-closes at once': ('connect; read; send 9; close', 'accept; shut-write; read'),
    'half-closed for a while': (
        'connect; shut-write; read 3; read 3; read', 'accept; read; pause; send 3; pause; send 3; close'),
    'both half-close at once': ('connect; meet; shut-write; read; poll', 'accept; meet; shut-write; read; poll'),
    'both close at once': ('connect; send 5; read 5; meet; close', 'accept; send 5; read 5; meet; close'),
    'poll at the end': ('connect; wait; poll; read; poll; meet', 'accept; shut-write; meet; close'),
    'ends before it is accepted': ('connect; send 5; close; meet', 'incoming; meet; accept; read'),
    'reads no more': (
        'connect; shut-read; poll; meet; meet; pause; send 5; close', 'accept; meet; send 4; meet; read; close'),
    'idle for a while': (
        'option KEEPIDLE 1; keep-alive; connect; send 5; pause; pause; pause; pause; pause; send 5; read',
        'accept; read 5; read 5; send 3; close'),
    # ---- ending otherwise
    'client resets': ('connect; meet; reset', 'accept; meet; wait; poll; so_error; read; read; send 5; peer'),
    'server resets': ('connect; meet; wait; poll; read; read; so_error; send 5; peer', 'accept; meet; reset'),
    'reset is told once': ('connect; meet; wait; so_error; read; send 5', 'accept; meet; reset'),
    'client resets before it is accepted': ('connect; meet; reset; meet', 'incoming; meet; meet; pause; accept; read; peer'),
    'client resets right after data': (
        'connect; send 1; read 1; send 5; reset', 'accept; read 1; send 1; failed; read; read'),
    'server resets right after data': (
        'connect; send 1; failed; read; read', 'accept; read 1; send 5; reset'),
    'client resets after much data': (
        'connect; send 100000; meet; reset', 'accept; available 100000; meet; failed; read; read'),
    'server resets after much data': (
        'connect; available 100000; meet; failed; read; read', 'accept; send 100000; meet; reset'),
    'client resets a writer': ('connect; read 1; reset', 'accept; write-until-error; read; send 1'),
    'server resets a writer': ('connect; write-until-error; read; send 1', 'accept; read 1; reset'),
    'client resets a reader': ('connect; send 3; meet; reset', 'accept; read 3; meet; read; read'),
    'server resets a reader': ('connect; read 3; meet; read; read', 'accept; send 3; meet; reset'),
    'client resets what is half closed': ('connect; shut-write; meet; pause; reset', 'accept; read; meet; write-until-error'),
    'server resets what is half closed': ('connect; meet; pause; write-until-error', 'accept; shut-write; meet; pause; reset'),
    'server closes with data unread': ('connect; send 8; meet; read; send 1', 'accept; wait; close; meet'),
    'client closes with data unread': ('connect; wait; close; meet', 'accept; send 8; meet; read; send 1'),
    'answer, then close with data unread': (
        'connect; send 100000; meet; pause; read; read', 'accept; read 1; pause; send 1000; close; meet'),
    'write after the end': ('connect; read; write-until-error; read', 'accept; pause; close'),
    # ---- data
    'large writes': ('connect; send 8388608; shut-write; read', 'accept; read; send 8388608; close'),
    'large writes both ways at once': ('connect; exchange 4194304', 'accept; exchange 4194304'),
    'tiny writes': (
        'connect; option NODELAY 1; send-singly 1500; shut-write; read',
        'accept; option NODELAY 1; read; send-singly 1500; close'),
    'ping-pong': ('connect; ping 200; close', 'accept; pong 200; read'),
    'slow reader at the server': ('connect; fill; shut-write; read', 'accept; drain; close'),
    'slow reader at the client': ('connect; drain; close', 'accept; fill; shut-write; read'),
    'urgent byte': ('connect; urgent; meet; close', 'accept; meet; pause; urgent-byte; read'),
    'urgent byte in line': ('connect; urgent; meet; close', 'accept; in-line; meet; pause; read'),
    # ---- ports
    'server starts again': ('connect; read; meet', 'accept; send 5; close; again; meet'),
    'server starts again, others are still served': ('connect; read 5; meet; read', 'accept; again; send 5; meet; close'),
    'client is a server on the same port': ('connect; again; send 5; read', 'accept; read 5; send 5; close'),
    # ---- other kinds of sockets
    'multipath TCP': ('multipath; connect; names; send 100000; shut-write; read',
                      'multipath; accept; names; read; send 9; close'),
    'multipath TCP at the client': ('multipath; connect; send 5; read', 'accept; read 5; send 5; close'),
    'accept deferred until data': ('connect; pause; send 5; read', 'defer; accept; read 5; send 4; close'),
    'no delay, quick acknowledgement, cork': (
        'connect; option NODELAY 1; option QUICKACK 1; option CORK 1; send 5; option CORK 0; read',
        'accept; read 5; send 4; close'),
}
OPTIONS = {'SYNCNT': 7, 'USER_TIMEOUT': 18, 'FASTOPEN_CONNECT': 30, 'KEEPIDLE': 4, 'NODELAY': 1, 'QUICKACK': 12, 'CORK': 3}
MPTCP = 262
EVENTS = {name: getattr(select, 'POLL' + name) for name in ('IN', 'PRI', 'OUT', 'ERR', 'HUP', 'RDHUP')}


def kind():
    return socket.AF_INET if family == '4' else socket.AF_INET6

def sockaddr(host, port):
    return (('::ffff:' if family == 'mapped' else '') + hosts[host], port)

def pattern(length):
    return (PATTERN * (length // len(PATTERN) + 1))[:length]

def errno_name(error):
    return 'timeout' if isinstance(error, TimeoutError) and not error.errno else errno.errorcode.get(error.errno, str(error))


class Meeting:
    """A barrier for two processes, at which they exchange what they want to tell each other."""

    def __init__(self, number):
        path = '%s/%s-%d' % (configuration['directory'], family, number)
        if side == 'server':
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
            self.listener, self.socket = listener, None
        else:
            self.listener, self.socket = None, socket.socket(socket.AF_UNIX)
            deadline = time.monotonic() + PATIENCE
            while True:
                try: self.socket.connect(path)
                except OSError:
                    if time.monotonic() > deadline: raise
                    time.sleep(0.02)
                else: break
            self.file = self.socket.makefile('rb')

    def come(self):
        if self.listener:
            self.socket, _ = self.listener.accept()
            self.file = self.socket.makefile('rb')

    def meet(self, message=''):
        self.socket.settimeout(PATIENCE)
        self.socket.sendall((json.dumps(message) + '\n').encode())
        line = self.file.readline()
        if not line: raise RuntimeError('the other end is gone')
        return json.loads(line)


class End:
    def __init__(self, port, meeting):
        self.port, self.meeting, self.notes, self.figures = port, meeting, [], {}
        self.protocol, self.inline, self.listener = 0, False, None
        self.socket = None if side == 'server' else self.fresh()

    def fresh(self):
        s = socket.socket(kind(), socket.SOCK_STREAM, self.protocol)
        s.settimeout(PATIENCE)
        return s

    def listen(self, script):
        words = script.split('; ')
        if 'multipath' in words: self.protocol = MPTCP
        l = self.listener = self.fresh()
        l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family != '4': l.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, family == '6')
        if 'defer' in words: l.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        l.bind(('', self.port))
        if not self.protocol: l.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
        l.listen(16)

    def run(self, script):
        for step in script.split('; '):
            word, *arguments = step.split()
            try: saw = getattr(self, word.replace('-', '_'))(*arguments)
            except OSError as error: saw = errno_name(error)
            if saw is not None: self.notes.append('%s: %s' % (step, ', '.join(saw) if isinstance(saw, list) else saw))

    # ---- before there is a connection
    def multipath(self):
        if side == 'server': return
        self.protocol = MPTCP
        self.socket = self.fresh()
    def defer(self): pass
    def non_blocking(self): self.socket.setblocking(False)
    def blocking(self): self.socket.settimeout(PATIENCE)
    def option(self, name, value): self.socket.setsockopt(socket.IPPROTO_TCP, OPTIONS[name], int(value))
    def keep_alive(self): self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    def send_timeout(self):
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 1, 0))
    def bind(self, host): self.socket.bind(sockaddr(host, 0))
    def bind_to_interface(self): self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
    def bind_privileged(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(('', {'4': 701, '6': 702, 'mapped': 703}[family]))

    # ---- opening
    def connect(self, host='server'):
        # Python waits for a connection by itself where there is a timeout; the kernel shall do it.
        if self.socket.gettimeout() == PATIENCE: self.socket.settimeout(None)
        began = time.monotonic()
        result = self.socket.connect_ex(sockaddr(host, self.port))
        took = time.monotonic() - began
        if self.socket.gettimeout() is None: self.socket.settimeout(PATIENCE)
        late = ' after about %d s' % round(took) if took > 0.7 and host == 'silent' else ''
        return ('ok' if not result else errno.errorcode[result]) + late
    def accept(self):
        self.socket, address = self.listener.accept()
        self.accepted = address[:2]
        self.socket.settimeout(PATIENCE)
        if self.inline: self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return 'ok'
    def sendto_fast_open(self):
        self.socket.settimeout(None)
        return self.socket.sendto(pattern(5), socket.MSG_FASTOPEN, sockaddr('server', self.port))
    def fan(self):
        saw, port = [], 0
        for host in ('server', 'server2'):
            s = self.fresh()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            s.bind(('', port))
            s.connect(sockaddr(host, self.port))
            s.send(pattern(5))
            saw.append('%d bytes, %s' % (len(s.recv(100)), 'same port' if s.getsockname()[1] == port else 'a port'))
            port = s.getsockname()[1]
        return saw
    def self(self):
        listener = self.fresh()
        listener.bind(sockaddr('client', 0))
        listener.listen()
        self.socket.connect(listener.getsockname()[:2])
        connection, address = listener.accept()
        self.socket.send(b'x')
        return [connection.recv(5).decode(), 'from the same port' if address == self.socket.getsockname() else 'no']

    def again(self):
        """Listens anew on the port of this probe, as a server does that was restarted."""
        if self.listener: self.listener.close()
        self.listen('')
        return 'ok'
    def incoming(self):
        """A connection is there, to be accepted."""
        return 'one' if select.select([self.listener], [], [], PATIENCE)[0] else 'none'

    # ---- names
    def name(self, address, known):
        host, port = address[0].removeprefix('::ffff:') if family == 'mapped' else address[0], address[1]
        names = [name for name, text in hosts.items() if text == host]
        if family == 'mapped' and not address[0].startswith('::ffff:'): names = ['not mapped: ' + host]
        return '%s %s' % (names[0] if names else host, known.get(port, 'privileged' if port < 1024 else 'some port'))
    def names(self):
        own, peer = self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        theirs = self.meeting.meet({'own': own, 'peer': peer})
        client = own if side == 'client' else theirs['own']
        at = "the client's %sport" % ('privileged ' if client[1] < 1024 else '')
        known = {self.port: "the server's port", client[1]: at}
        saw = ['I am %s' % self.name(own, known), 'my peer is %s' % self.name(peer, known)]
        if side == 'server': saw.append('accept() says %s' % self.name(self.accepted, known))
        return saw
    def peer(self): return self.name(self.socket.getpeername(), {self.port: "the server's port"})

    # ---- waiting
    def meet(self): self.meeting.meet()
    def pause(self): time.sleep(0.4)
    def wait(self):
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT if 'EINPROGRESS' in str(self.notes[-1:]) else select.POLLIN | select.POLLRDHUP)
        events = poll.poll(PATIENCE * 1000)
        if events and events[0][1] == select.POLLERR: # the kernel notes an error a moment before the new state
            time.sleep(0.05)
            events = poll.poll(0)
        return self.masks(events)
    def failed(self):
        poll = select.poll()
        poll.register(self.socket, 0)
        return 'yes' if poll.poll(PATIENCE * 1000) else 'no'
    def available(self, length):
        """Waits until so many bytes can be read."""
        deadline, count = time.monotonic() + PATIENCE, bytearray(4)
        while time.monotonic() < deadline:
            fcntl.ioctl(self.socket, termios.FIONREAD, count)
            if struct.unpack('i', count)[0] >= int(length): return 'yes'
            time.sleep(0.01)
        return 'no'
    def poll(self):
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP)
        return self.masks(poll.poll(0))
    def masks(self, events):
        return ' '.join(name for name, bit in EVENTS.items() if events and events[0][1] & bit) or 'nothing'
    def so_error(self):
        return errno.errorcode.get(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), '0')

    # ---- data
    def send(self, length):
        data, sent = memoryview(pattern(int(length))), 0
        while sent < len(data): sent += self.socket.send(data[sent:])
        return '%d bytes' % sent
    def send_singly(self, count):
        for byte in pattern(int(count)): self.socket.send(bytes([byte]))
    def read(self, length=1 << 40):
        digest, count, end = hashlib.sha256(), 0, ''
        try:
            while count < int(length):
                data = self.socket.recv(min(int(length) - count, 1 << 18))
                if not data: break
                digest.update(data)
                count += len(data)
            end = ', end' if count < int(length) else ''
        except OSError as error: end = ', ' + errno_name(error)
        return '%d bytes %s%s' % (count, digest.hexdigest()[:8] if count else '', end)
    def exchange(self, length):
        sender = threading.Thread(target=lambda: (self.send(length), self.socket.shutdown(socket.SHUT_WR)))
        sender.start()
        saw = self.read()
        sender.join()
        return saw
    def ping(self, count):
        for i in range(int(count)):
            self.socket.send(b'%4d' % i)
            if self.socket.recv(10) != b'%4d' % i: return 'no'
        return 'ok'
    def pong(self, count):
        for _ in range(int(count)): self.socket.send(self.socket.recv(10))
    def fill(self):
        """Writes until next to nothing is taken any more for a second."""
        self.socket.setblocking(False)
        sent, mark, since = 0, 0, time.monotonic()
        while time.monotonic() < since + 1:
            try: sent += self.socket.send(PATTERN)
            except BlockingIOError: time.sleep(0.01)
            if sent > mark + 65536: mark, since = sent, time.monotonic()
        self.socket.settimeout(PATIENCE)
        self.figures['taken from a writer whose reader is slow'] = sent
        self.meeting.meet(sent)
        return 'blocked'
    def drain(self):
        """Reads what "fill" of the other end wrote."""
        sent = self.meeting.meet()
        count = 0
        while data := self.socket.recv(1 << 18): count += len(data)
        return 'all' if count == sent else '%d bytes of %d' % (count, sent)
    def write_until_error(self):
        try:
            for _ in range(100 * PATIENCE):
                self.socket.send(pattern(1000))
                time.sleep(0.01)
            return 'no error'
        except OSError as error: return 'reset' if error.errno in (errno.ECONNRESET, errno.EPIPE) else errno_name(error)
    def urgent(self):
        self.socket.sendall(b'abc')
        self.socket.send(b'!', socket.MSG_OOB)
        time.sleep(0.1) # so that the urgent byte is the last of its segment
        self.socket.sendall(b'def')
    def in_line(self): self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    def urgent_byte(self): return self.socket.recv(1, socket.MSG_OOB).decode()

    # ---- ending
    def shut_write(self): self.socket.shutdown(socket.SHUT_WR)
    def shut_read(self): self.socket.shutdown(socket.SHUT_RD)
    def close(self): self.socket.close()
    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.socket.close()


def main():
    ends, scripts = {}, {}
    only = configuration.get('only')
    for i, (name, (client, server)) in enumerate(PROBES.items()):
        script = client if side == 'client' else server
        if script is None or only and name not in only: continue
        meeting = Meeting(i) if server is not None else None
        ends[name], scripts[name] = End(configuration['port'] + i, meeting), script
        if side == 'server': ends[name].listen(script)

    def run(name):
        end = ends[name]
        try:
            if end.meeting: end.meeting.come()
            end.run(scripts[name])
        except BaseException as error: end.notes.append(repr(error))
        # Whoever is left to itself now must not see a reset that it would not have seen.
        if end.meeting:
            try: end.meeting.meet('done')
            except Exception: pass

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in ends]
    for thread in threads: thread.start()
    deadline = time.monotonic() + 2 * PATIENCE
    for thread in threads: thread.join(max(0, deadline - time.monotonic()))
    for name, thread in zip(ends, threads):
        if thread.is_alive(): ends[name].notes.append('hangs')
    print(json.dumps({'saw': {name: end.notes for name, end in ends.items()},
                      'figures': {name: end.figures for name, end in ends.items() if end.figures}}))

if side == 'list': print(json.dumps(list(PROBES)))
else: main()
