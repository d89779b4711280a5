/** Whether the kernel part is still the one that the sockets of this process were opened under. */
import { enoStateBytes, kernelPartPresent, openEnoSocket } from './eno-socket.js';
import { close, dup } from './libc.js';

/** Any offer will do: the socket is never connected. */
const OFFER = { contents: Buffer.of(0x23) };

export class KernelPartProbe {
  readonly #fd: number;

  /** @throws ERR_TCPCRYPT_KERNEL_ABSENT */
  constructor() {
    this.#fd = openEnoSocket(4, OFFER);
  }

  /**
   * 'gone': sockets of this process cannot speak ENO. 'another': those that are opened now can, but the earlier ones are
   * strangers to it. (One that "tcpcrypt up" has updated in place is still ours.) One system call while it is ours.
   * @throws ERR_TCPCRYPT_SYSTEM when that cannot be found out now
   */
  get state(): 'ours' | 'gone' | 'another' {
    if (enoStateBytes(this.#fd) !== undefined) return 'ours';
    return kernelPartPresent() ? 'another' : 'gone';
  }

  /** The kernel part of now is ours. */
  renew(): void {
    const fresh = openEnoSocket(4, OFFER);
    dup(fresh, this.#fd);
    close(fresh);
  }

  close(): void {
    close(this.#fd);
  }
}
