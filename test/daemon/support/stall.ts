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
