"""A peer made of raw packets, to see and to say exactly what is on the wire. Run by wire.test.ts:

    unshare --net python3 wire.py [SCENARIO [JSON]]

in a cgroup that has the kernel part. The kernel under test is 127.0.0.1; the peer is 127.0.0.2, where no program
listens; its kernel's own resets are dropped. Prints one JSON document.
"""
import json
import select
import socket
import struct
import subprocess
import sys
import time

HOST, PEER = "127.0.0.1", "127.0.0.2"
TCP = 6
AA_MANDATORY, RAW, STATE, SYN_TRIES, EXPECT = 1032, 1037, 1039, 1040, 1041
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS = bytes.fromhex("020405b4")


def run(command):
    subprocess.run(command, shell=True, check=True)


run("ip link set lo up")
# Fixed timestamps of the vectors would be refused, had the kernel under test negotiated any.
run("sysctl -qw net.ipv4.tcp_timestamps=0 net.ipv4.tcp_syncookies=1")
run(f"nft 'add table ip peer; add chain ip peer out {{ type filter hook output priority 0; }};"
    f"add rule ip peer out ip saddr {PEER} tcp flags & rst == rst drop'")

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.bind((PEER, 0))


class Segment:
    """What the kernel under test sent."""

    def __init__(self, packet):
        header = packet[(packet[0] & 15) * 4:]
        self.sport, self.dport, self.seq, self.ack, offset, self.flags = struct.unpack("!HHIIBB", header[:14])
        offset = (offset >> 4) * 4
        self.payload = header[offset:struct.unpack("!H", packet[2:4])[0] - (packet[0] & 15) * 4]
        self.eno = None
        options, i = header[20:offset], 0
        while i < len(options) and options[i]:
            if options[i] == 1:
                i += 1
                continue
            if options[i] == 69:
                assert self.eno is None, "two ENO options"
                self.eno = options[i:i + options[i + 1]].hex()
            i += options[i + 1]
        self.flags &= FIN | SYN | RST | PSH | ACK

    def summary(self):
        names = "".join(n for bit, n in ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, ".")) if self.flags & bit)
        return [names, len(self.payload), self.eno]


def send(sport, dport, seq, ack, flags, options=b"", payload=b""):
    options += b"\0" * (-len(options) % 4)
    header = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xffffffff, ack & 0xffffffff,
                         (20 + len(options)) // 4 << 4, flags, 65535, 0, 0) + options + payload
    pseudo = socket.inet_aton(PEER) + socket.inet_aton(HOST) + struct.pack("!BBH", 0, TCP, len(header))
    data = pseudo + header + b"\0" * (len(header) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xffff
    raw.sendto(header[:16] + struct.pack("!H", total) + header[18:], (HOST, 0))


waiting = []


def receive(port, timeout=0.5):
    """The next segment to `port` of the peer; None when there is none in time."""
    end = time.monotonic() + timeout
    for segment in waiting:
        if segment.dport == port:
            waiting.remove(segment)
            return segment
    while (left := end - time.monotonic()) > 0:
        if select.select([raw], [], [], left)[0]:
            segment = Segment(raw.recv(65536))
            if segment.dport == port and not segment.flags & RST:
                return segment
            if not segment.flags & RST:
                waiting.append(segment)
    return None


ports = iter(range(10000, 60000))


def state(sock):
    try:
        b = sock.getsockopt(TCP, STATE, 96)
    except OSError as e:
        return {"errno": e.errno}
    return {"phase": b[0], "reason": b[1], "role": b[2], "tep": b[3], "peer_gopt": b[4], "syns": b[6],
            "acknowledging": b[7], "transcript": b[16:16 + b[9]].hex()}


def eno_socket(contents, mandatory_aware=False):
    sock = socket.socket()
    sock.setsockopt(TCP, RAW, contents)
    sock.setsockopt(TCP, AA_MANDATORY, mandatory_aware)
    return sock


def listener(contents, mandatory_aware=False):
    sock = eno_socket(contents, mandatory_aware)
    sock.bind((HOST, 0))
    sock.listen(16)
    sock.settimeout(1)
    return sock


def abort(*socks):
    for sock in socks:
        if sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


class Passive:
    """The kernel listens, the peer connects."""

    def __init__(self, contents, syn_options, mandatory_aware=False):
        self.listener = listener(contents, mandatory_aware)
        self.port, self.dport, self.isn = next(ports), self.listener.getsockname()[1], 1000
        self.syn(syn_options)
        self.synack = receive(self.port)
        self.accepted = None

    def syn(self, options):
        send(self.port, self.dport, self.isn, 0, SYN, options)

    def ack(self, options=b"", payload=b""):
        send(self.port, self.dport, self.isn + 1, self.synack.seq + 1, ACK, options, payload)

    def accept(self):
        try:
            self.accepted = self.listener.accept()[0]
            return state(self.accepted)
        except TimeoutError:
            return None

    def close(self):
        abort(self.accepted, self.listener)


class Active:
    """The kernel connects, the peer answers."""

    def __init__(self, contents, expect=b"", tries=None, mandatory_aware=False):
        self.sock = eno_socket(contents, mandatory_aware)
        if expect:
            self.sock.setsockopt(TCP, EXPECT, expect)
        if tries is not None:
            self.sock.setsockopt(TCP, SYN_TRIES, tries)
        self.sock.setblocking(False)
        self.port, self.isn = next(ports), 5000
        self.sock.connect_ex((PEER, self.port))
        self.syn = receive(self.port)

    def answer(self, options, flags=SYN | ACK):
        send(self.port, self.syn.sport, self.isn, self.syn.seq + 1 if flags & ACK else 0, flags, options)

    def segment(self, ack, payload=b""):
        send(self.port, self.syn.sport, self.isn + 1, ack, ACK, b"", payload)

    def close(self):
        abort(self.sock)


def vectors(rows):
    """Every row of eno-negotiation.json: what the kernel sent, and what it decided."""
    out = []
    for row in rows:
        received = bytes.fromhex(row["received_options"])
        if row["opener"] == "passive":
            link = Passive(bytes(reversed(row["teps_most_preferred_first"])), received, row["mandatory_aware"])
            link.ack(bytes.fromhex(row["first_ack_options"]))
            out.append({"synack": link.synack.eno, "state": link.accept()})
        else:
            expect = b""
            if "proposed_tep" in row:
                expect = bytes([row["proposed_tep"] | 0x80]) + bytes.fromhex(row["expected_peer_half"])
            link = Active(bytes.fromhex(row["offer_contents"]), expect, mandatory_aware=row["mandatory_aware"])
            link.answer(received)
            ack = receive(link.port)
            out.append({"syn": link.syn.eno, "ack": ack.eno, "state": state(link.sock)})
        link.close()
    return out


def syn_retransmission():
    """Nobody answers: which of the SYNs carry ENO? The last one is answered, too late."""
    out = {}
    links = {tries: Active(b"\x23", tries=tries) for tries in (1, 2)}
    for tries, link in links.items():
        out[tries] = [link.syn.eno]
        while out[tries][-1]:
            out[tries].append(receive(link.port, 3).eno)
    for tries, link in links.items():
        link.answer(MSS + bytes.fromhex("45040123"))
        out[f"ack{tries}"] = receive(link.port).eno
        out[f"state{tries}"] = state(link.sock)
        link.close()
    return out


def synack_retransmission():
    link = Passive(b"\x23", MSS + bytes.fromhex("450323"))
    first = link.synack
    link.syn(MSS + bytes.fromhex("450323"))
    again = receive(link.port, 2)
    timer = receive(link.port, 3)
    link.ack(bytes.fromhex("4502"))
    result = [first.eno, again.eno, timer.eno, link.accept()]
    link.close()
    return result


def syn_again(options, ack_options):
    """The SYN comes a second time with other options."""
    link = Passive(b"\x23", MSS + bytes.fromhex("450323"))
    link.syn(MSS + bytes.fromhex(options))
    link.ack(bytes.fromhex(ack_options))
    result = link.accept()
    link.close()
    return result


def first_ack_lost():
    """The segment that replaces the lost third one has data; it carries ENO too."""
    link = Passive(b"\x23", MSS + bytes.fromhex("450323"))
    link.ack(bytes.fromhex("4502"), b"data")
    result = [link.accept(), link.accepted.recv(10).decode()]
    answer = receive(link.port)
    link.accepted.send(b"x")
    data = receive(link.port)
    link.close()
    return result + [answer.summary(), data.summary()]


def acknowledging():
    """ENO-26: every segment of the active opener carries ENO until a non-SYN segment has arrived."""
    link = Active(b"\x23")
    synack = MSS + bytes.fromhex("45040123")
    link.answer(synack)
    out = [receive(link.port).summary()]
    link.sock.send(b"one")
    data = receive(link.port)
    out.append(data.summary())
    link.answer(synack)  # our first ACK was lost
    out.append(receive(link.port).summary())
    out.append(state(link.sock)["acknowledging"])
    link.segment(data.seq + 3)
    time.sleep(0.02)
    link.sock.send(b"two")
    while (segment := receive(link.port)).payload != b"two":
        pass
    out += [segment.summary(), state(link.sock)["acknowledging"]]
    link.close()
    return out


def syn_data(eno, fast_open, cookies, options):
    """A SYN with data; the same place in the stream then comes with others, in a non-SYN segment. `fast_open`: the value
    of the listener's TCP_FASTOPEN; `cookies`: of net.ipv4.tcp_fastopen."""
    run(f"sysctl -qw net.ipv4.tcp_fastopen={cookies}")
    server = eno_socket(b"\x23") if eno else socket.socket()
    server.bind((HOST, 0))
    refused = 0
    if fast_open:
        try:
            server.setsockopt(TCP, socket.TCP_FASTOPEN, fast_open)
        except OSError as e:
            refused = e.errno
    server.listen(16)
    server.settimeout(1)
    if fast_open == 0:
        server.setsockopt(TCP, socket.TCP_FASTOPEN, 0)
    port, isn, dport = next(ports), 1000, server.getsockname()[1]
    send(port, dport, isn, 0, SYN, MSS + bytes.fromhex(options), b"in the SYN")
    synack = receive(port)
    send(port, dport, isn + 1, synack.seq + 1, ACK, bytes.fromhex("4502"), b"afterwards")
    accepted = server.accept()[0]
    accepted.settimeout(1)
    result = {"acknowledged": synack.ack - isn, "eno": synack.eno, "received": accepted.recv(100).decode(),
              "refused": refused, "state": state(accepted)}
    abort(accepted, server)
    return result


def syn_data_to(command, dport, cookies):
    """The same to a program that listens by itself."""
    run(f"sysctl -qw net.ipv4.tcp_fastopen={cookies}")
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        while not subprocess.run(["ss", "-Hltn", f"sport = :{dport}"], capture_output=True, check=True).stdout:
            assert program.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)  # from listen(2) to what follows it
        port = next(ports)
        send(port, dport, 1000, 0, SYN, MSS + bytes.fromhex("450323"), b"in the SYN")
        synack = receive(port, 5)
        return [synack.ack - 1000, synack.eno]
    finally:
        program.kill()


def syn_cookies():
    run("sysctl -qw net.ipv4.tcp_syncookies=2")
    link = Passive(b"\x23", MSS + bytes.fromhex("450323"))
    link.ack(bytes.fromhex("4502"))
    result = [link.synack.eno, link.accept()]
    link.close()
    run("sysctl -qw net.ipv4.tcp_syncookies=1")
    return result


def simultaneous(contents, theirs):
    """The SYNs cross (RFC 8547 section 4.6): SYN, SYN-ACK with the same option, then the two-byte form."""
    link = Active(bytes.fromhex(contents), tries=1)
    option = bytes.fromhex(theirs)
    option = MSS + bytes([69, len(option) + 2]) + option
    link.answer(option, SYN)
    synack = receive(link.port)
    link.answer(option, SYN | ACK)
    time.sleep(0.05)
    link.sock.send(b"x")
    while (segment := receive(link.port)).payload != b"x":
        pass
    result = [link.syn.summary(), synack.summary(), segment.summary(), state(link.sock)]
    link.close()
    return result


def capture():
    """Two ordinary programs: every segment of their connection, from both ends."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    tap.bind(("lo", 0x0800))
    server = listener(b"\x21\x23")
    client = eno_socket(b"\x23\x21")
    client.connect(server.getsockname())
    accepted = server.accept()[0]
    for a, b in ((client, accepted), (accepted, client), (client, accepted)):
        a.sendall(b"x" * 100)
        assert len(b.recv(100)) == 100
        time.sleep(0.02)
    out = []
    while select.select([tap], [], [], 0.1)[0]:
        packet, address = tap.recvfrom(65536)
        if address[2] != 4:  # PACKET_OUTGOING: loopback shows every packet twice
            segment = Segment(packet)
            out.append(["A" if segment.dport == server.getsockname()[1] else "B"] + segment.summary())
    abort(client, accepted, server)
    return out


arguments = [json.loads(argument) for argument in sys.argv[2:]]
print(json.dumps(globals()[sys.argv[1]](*arguments)))
