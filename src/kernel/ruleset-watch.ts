/**
 * Notices when somebody deletes firewall rules: `systemctl reload nftables`, for one, begins with "flush ruleset",
 * which takes everybody's tables. The kernel tells by netlink, group NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h);
 * whose rules they were is for the listener to find out.
 */
import {
  AF_NETLINK,
  bind,
  close,
  EAGAIN,
  eventfd,
  MSG_DONTWAIT,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_NETFILTER,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_NETLINK,
  setsockopt,
  socket,
  tryRecv,
  waitReadable,
  wake,
} from './libc.js';

const NFNLGRP_NFTABLES = 7;
/** NFT_MSG_DELTABLE, _DELCHAIN, _DELRULE: the low byte of `nlmsg_type`. */
const DELETIONS: readonly number[] = [2, 5, 8];
/** The longest datagram that is looked at; a longer one is cut off, and its beginning tells enough. */
const DATAGRAM = 65_536;

export class RulesetWatch {
  readonly #netlink: number;
  readonly #wakeUp: number;
  readonly #onDeletion: () => void;
  readonly #onExit = (): void => this.close();
  #closing = false;

  /**
   * @param onDeletion called when rules, chains or tables were deleted, once for each batch
   * @throws ERR_TCPCRYPT_PERMISSION without CAP_NET_ADMIN
   */
  constructor(onDeletion: () => void) {
    this.#onDeletion = onDeletion;
    this.#netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    try {
      // `struct sockaddr_nl`: a number of the kernel's choice, without which nothing is delivered.
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK);
      bind(this.#netlink, address);
      setsockopt(this.#netlink, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES);
      this.#wakeUp = eventfd();
    } catch (error) {
      close(this.#netlink);
      throw error;
    }
    // The process would wait for the pool's thread, which waits for a message.
    process.once('exit', this.#onExit);
    void this.#serve();
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    wake(this.#wakeUp);
  }

  async #serve(): Promise<void> {
    const datagram = Buffer.alloc(DATAGRAM);
    while (!this.#closing) {
      await waitReadable([this.#netlink, this.#wakeUp]);
      let deleted = false;
      for (;;) {
        const length = tryRecv(this.#netlink, datagram, MSG_DONTWAIT);
        if (length === -EAGAIN) break;
        // Too many messages at once (ENOBUFS): anything may have been among them.
        deleted ||= length < 0 || tellsOfDeletion(datagram.subarray(0, length));
        if (length < 0) break;
      }
      if (deleted && !this.#closing) this.#onDeletion();
    }
    process.off('exit', this.#onExit);
    close(this.#netlink);
    close(this.#wakeUp);
  }
}

/** Looks through the messages of a datagram: `struct nlmsghdr`, four-byte aligned. */
function tellsOfDeletion(datagram: Buffer): boolean {
  for (let at = 0; at + 16 <= datagram.length; ) {
    if (DELETIONS.includes(datagram.readUInt16LE(at + 4) & 0xff)) return true;
    const length = datagram.readUInt32LE(at);
    if (length < 16) return false;
    at += (length + 3) & ~3;
  }
  return false;
}
