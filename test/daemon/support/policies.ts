/** Policy files for daemons of the lab, and what a client sees of a connection. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '#src/lab/host.js';
import type { Lab } from '#src/lab/lab.js';
import { python } from './pair.js';

let files = 0;

/** @returns the file's path */
export function policyFile(lab: Lab, text: string): string {
  const file = join(lab.directory, `policy-${++files}.toml`);
  writeFileSync(file, text);
  return file;
}

export const GREET = `
import encodings.idna, errno, os, socket, sys
if len(sys.argv) > 4: os.setuid(int(sys.argv[4]))
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as connection:
        connection.sendall(b'hello\\n')
        print('answered' if connection.recv(100) else 'end', end='')
except TimeoutError: print('timeout', end='')
except OSError as error: print(errno.errorcode[error.errno], end='')
`;

/** 'answered', 'end', 'timeout' or an error such as 'ECONNREFUSED'. The server is MANY's, with the client closing first. */
export async function greet(from: Host, address: string, port: number, uid?: number): Promise<string> {
  const user = uid === undefined ? [] : [`${uid}`];
  const { stdout, stderr } = await from.run(...python(GREET, address, `${port}`, '8', ...user), {
    timeoutMs: 20_000,
  });
  return `${stdout}${stderr}`;
}

/** The same in a cgroup below that of the host. */
export async function greetIn(cgroup: string, from: Host, address: string, port: number): Promise<string> {
  const enter = `echo 0 > "$0/cgroup.procs" && exec "$@"`;
  const { stdout, stderr } = await from.run('sh', [
    '-c',
    enter,
    cgroup,
    ...python(GREET, address, `${port}`, '8').flat(),
  ]);
  return `${stdout}${stderr}`;
}
