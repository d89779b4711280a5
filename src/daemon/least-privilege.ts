/**
 * What the daemon keeps of root's powers once everything is set up:
 *
 *   CAP_NET_ADMIN         NFQUEUE verdicts, packet marks, transparent sockets, its own firewall rules
 *   CAP_NET_BIND_SERVICE  ports below 1024, in the name of clients that have such
 *
 * The pinned BPF maps are open already, and an open map may be written to. The guards that clean up after the daemon
 * were started before, and stay root: they are shells with a fixed text that wait for the end of a pipe.
 */
import { spawnSync } from 'node:child_process';
import { TcpcryptError } from '../errors.js';
import { becomeUser, CAP, findUser } from '../kernel/privileges.js';

/** The daemon's own user, where the machine has one. */
const USER = 'tcpcrypt';
/** Otherwise; what else runs as this user has no way into the daemon's memory. */
export const FALLBACK = 'nobody';
/** Stay root, for those who must. */
export const ROOT = 'root';

/**
 * @param name a user, by name or number; "root": stay as we are
 * @returns as whom the daemon goes on
 * @throws ERR_TCPCRYPT_ARGUMENT when there is no such user
 */
export function leaveRoot(name?: string): string {
  if (process.geteuid?.() !== 0) return String(process.geteuid?.());
  const wanted = daemonUser(name);
  if (wanted === ROOT) return ROOT;
  const user = findUser(wanted);
  if (user === undefined)
    throw new TcpcryptError('ERR_TCPCRYPT_ARGUMENT', {
      detail: `there is no user ${wanted}: useradd --system --no-create-home ${USER}, or name another with --user`,
    });
  becomeUser(user, [CAP.NET_ADMIN, CAP.NET_BIND_SERVICE]);
  return wanted;
}

/**
 * Workers are started by a daemon that is not root any more.
 * @throws ERR_TCPCRYPT_PERMISSION when the daemon's user could not
 */
export function checkReadable(program: string, name?: string): void {
  const wanted = daemonUser(name);
  if (process.geteuid?.() !== 0 || wanted === ROOT) return;
  const user = findUser(wanted);
  if (user === undefined) return; // leaveRoot() says so
  const found = spawnSync('/bin/sh', ['-c', '[ -r "$1" ] && [ -x "$2" ]', 'sh', program, process.execPath], {
    uid: user.uid,
    gid: user.gid,
    stdio: 'ignore',
  });
  if (found.status !== 0)
    throw new TcpcryptError('ERR_TCPCRYPT_PERMISSION', {
      detail: `--workers: ${wanted} must be able to run ${process.execPath} and to read ${program}: install tcpcrypt where it can, or --workers 1`,
    });
}

/** As whom the daemon is to go on, see {@link leaveRoot}. */
export function daemonUser(name?: string): string {
  if (name === ROOT || name === '0') return ROOT;
  return name ?? (findUser(USER) === undefined ? FALLBACK : USER);
}
