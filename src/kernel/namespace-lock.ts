/**
 * A lock of this network namespace that nobody can leave behind, and nobody without CAP_NET_ADMIN in the namespace can take:
 * an nft table without content that belongs to a netlink socket (NFT_TABLE_F_OWNER). It lasts as long as the descriptor is
 * open, in this process or in one that inherited it. "nft flush ruleset" passes it by.
 */
import {
  AF_NETLINK,
  close,
  EEXIST,
  ENOENT,
  EPERM,
  MSG_DONTWAIT,
  NETLINK_NETFILTER,
  SOCK_CLOEXEC,
  SOCK_RAW,
  socket,
  systemError,
  tryRecv,
  trySend,
} from './libc.js';
import { ownTableMessages, parseMessages, tableMessage } from './netlink.js';

/** The tables' names begin so. */
const PREFIX = 'tcpcrypt_lock_';
/** So often its holder may let go of it between our attempt and the question whether it is there. */
const TRIES = 16;
/** Bytes; the kernel tells less of a table without content. */
const DATAGRAM = 4096;

/**
 * @returns undefined when somebody else has it
 * @throws ERR_TCPCRYPT_PERMISSION without CAP_NET_ADMIN; ERR_TCPCRYPT_SYSTEM when the kernel has no nftables
 */
export function lockNamespace(subject: string): number | undefined {
  const table = PREFIX + subject;
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  try {
    for (let sequence = 1; sequence <= 2 * TRIES; sequence += 2) {
      const made = ask(fd, ownTableMessages(table, sequence), sequence);
      if (made === 0) return fd;
      if (made !== EEXIST && made !== EPERM) throw systemError('nf_tables: new table', made);
      // EPERM: it belongs to another socket; or we may not even ask.
      const there = ask(fd, tableMessage(table, sequence + 1), sequence + 1);
      if (there === 0) break;
      if (there !== ENOENT) throw systemError('nf_tables: get table', there);
    }
  } catch (error) {
    close(fd);
    throw error;
  }
  close(fd);
  return undefined;
}

/** Netlink answers before the call that asks has returned. Returns errno, 0 for success. */
function ask(fd: number, messages: Buffer, sequence: number): number {
  const sent = trySend(fd, messages);
  if (sent !== 0) throw systemError('send', -sent);
  const datagram = Buffer.alloc(DATAGRAM);
  for (;;) {
    const length = tryRecv(fd, datagram, MSG_DONTWAIT);
    if (length < 0) throw systemError('recv', -length);
    // What is wrong with a batch as a whole is told of its first message, whose number is 0.
    for (const answer of parseMessages(datagram.subarray(0, length)))
      if (answer.kind === 'status' && (answer.sequence === sequence || answer.errno !== 0))
        return answer.errno;
  }
}
