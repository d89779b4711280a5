/** The two unmodified programs of the demo: nginx with a file to fetch, and curl. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TcpcryptError } from '../errors.js';
import type { Host } from '../lab/host.js';

/** What nobody but the two ends should read; asked for by the client, and answered by the server. */
export const QUESTION_MARKER = 'what-is-the-secret-of-the-house';
export const ANSWER_MARKER = 'The key is under the third flowerpot.';

const FILE_SIZE = 2 * 1024 * 1024;
const PORT = 80;

/** Starts nginx on `host`. @returns the SHA-256 of the file it serves as /letter */
export async function serve(host: Host, directory: string): Promise<string> {
  const root = join(directory, host.name);
  mkdirSync(root);
  const letter = Buffer.concat([
    Buffer.from(`${ANSWER_MARKER}\n`),
    Buffer.from(randomBytes(FILE_SIZE / 2).toString('hex')),
    Buffer.from(`\n${ANSWER_MARKER}\n`),
  ]);
  writeFileSync(join(root, 'letter'), letter);
  writeFileSync(
    join(root, 'nginx.conf'),
    `daemon off; user root; worker_processes 1; pid ${root}/pid; error_log ${root}/error.log;
events { worker_connections 64; }
http {
  access_log ${root}/access.log;
  client_body_temp_path ${root}/body; proxy_temp_path ${root}/proxy; fastcgi_temp_path ${root}/fastcgi;
  uwsgi_temp_path ${root}/uwsgi; scgi_temp_path ${root}/scgi;
  server { listen ${PORT}; server_tokens off; root ${root}; }
}
`,
  );
  host.spawn('nginx', ['-c', join(root, 'nginx.conf'), '-e', join(root, 'error.log')], { stdio: 'ignore' });
  await host.waitForListener(PORT);
  return sha256(letter);
}

/** What nginx wrote of the client of its last request: its address. */
export function lastClient(host: Host, directory: string): string {
  const lines = readFileSync(join(directory, host.name, 'access.log'), 'utf8')
    .trim()
    .split('\n');
  return (lines.at(-1) ?? '').split(' ')[0] ?? '';
}

/** Fetches /letter with curl. @returns the SHA-256 of what came */
export async function fetchLetter(client: Host, server: Host): Promise<{ command: string; sha256: string }> {
  const url = `http://${server.address4}/letter?${QUESTION_MARKER}`;
  const { code, stdout, stderr } = await client.run('curl', ['-sS', '--max-time', '20', url]);
  if (code !== 0) throw new TcpcryptError('ERR_TCPCRYPT_LAB', { detail: `curl ${url}: ${stderr.trim()}` });
  return { command: `curl http://${server.address4}/letter`, sha256: sha256(stdout) };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
