#!/usr/bin/env python3
"""A server that logs each connection with its session ID, as a web or database server might do.

    python3 examples/log_session_ids.py 7000

An ordinary program: the daemon encrypts, and the socket options tell. The numbers are those of include/tcp_eno.h.
"""
import errno
import socket
import sys
import threading

TCP_ENO_SESSID = 1027
TCP_ENO_PEER_GOPT = 1031
TCP_CRYPT_CONF = 1045
AEADS = {1: "AES-128-GCM", 2: "AES-256-GCM", 16: "ChaCha20-Poly1305"}


def session_id(connection):
    """The session ID, or None where the connection is plain (or tcpcrypt is not there)."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, TCP_ENO_SESSID, 64)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOPROTOOPT):
            return None
        raise


def serve(connection, peer):
    with connection:
        # Behind the daemon there is a session ID as soon as accept(2) returns.
        found = session_id(connection)
        if found is None:
            print(f"{peer[0]} {peer[1]} plain", flush=True)
        else:
            aead = AEADS[connection.getsockopt(socket.IPPROTO_TCP, TCP_CRYPT_CONF)]
            print(f"{peer[0]} {peer[1]} {found.hex()} {aead}", flush=True)
        while connection.recv(65536):
            pass


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PORT")
    listener = socket.create_server(("", int(sys.argv[1])))
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=serve, args=(connection, peer), daemon=True).start()


main()
