/**
 * Many connections at the same instant. `serve PORT` echoes what it gets, and closes first; `call ADDRESS PORT COUNT
 * ROUNDS` prints what became of them, for each errno a number.
 */
export const BURST = `
import collections, errno, json, select, socket, sys
mode, *arguments = sys.argv[1:]

def serve(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(('', port))
    listener.listen(4096)
    poll, connections = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                connection, _ = listener.accept()
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
            else:
                poll.unregister(fd)
                connection = connections.pop(fd)
                try: connection.send(connection.recv(100))
                except OSError: pass
                connection.close()

def burst(address, port, count, results):
    poll, waiting = select.epoll(), {}
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((address, port))
        waiting[connection.fileno()] = connection
        poll.register(connection, select.EPOLLOUT)
    while waiting:
        events = poll.poll(20)
        if not events:
            results['silent'] += len(waiting)
            return
        for fd, event in events:
            connection = waiting[fd]
            try:
                if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR): raise OSError(error, '')
                if event & select.EPOLLOUT:
                    connection.send(b'hello')
                    poll.modify(fd, select.EPOLLIN)
                    continue
                data = connection.recv(100)
                if data: # and then the server's end of file
                    results['echoed' if data == b'hello' else repr(data)] += 1
                    continue
                results['ended'] += 1
            except OSError as error: results[errno.errorcode.get(error.errno, '?')] += 1
            poll.unregister(fd)
            waiting.pop(fd).close()

if mode == 'serve': serve(int(arguments[0]))
else:
    results = collections.Counter()
    for _ in range(int(arguments[3])): burst(arguments[0], int(arguments[1]), int(arguments[2]), results)
    print(json.dumps(results))
`;
